//! A compiled template: the metered instructions, beside the text that they borrow from.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse, parse_expr};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, Value};

use self::owned::Owned;
use crate::templates::metering::{meter_expression, meter_template};

pub(in crate::templates) struct Code<'s> {
    instructions: Instructions<'s>,
    blocks: BTreeMap<&'s str, Instructions<'s>>,
}

#[expect(clippy::mem_forget, reason = "the crate's own, in what its macro makes")]
mod owned {
    use self_cell::self_cell;

    use super::Code;

    self_cell! {
        pub(in crate::templates) struct Owned {
            owner: String,
            #[covariant]
            dependent: Code,
        }
    }
}

/// What one evaluation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `{{ … }}` and nothing else: a value.
    Expression,
    /// Text.
    Text,
}

/// A template's code. Dotted names that it uses come with it.
pub(super) struct Program {
    kind: Kind,
    code: Owned,
    pub(super) names: BTreeSet<String>,
}

/// In error messages of the engine, which nobody sees.
const NAME: &str = "template";

impl Program {
    /// Of what stands between the braces of a single expression; `harmless` has the same names, for the engine's compiler.
    pub(super) fn of_expression(
        inside: &str,
        harmless: &str,
        environment: &Environment<'static>,
    ) -> Result<Self, Error> {
        let names = environment.compile_expression(harmless)?.undeclared_variables(true).into_iter().collect();
        let code = Owned::try_new(inside.to_owned(), |source| {
            let tree = parse_expr(source)?;
            Ok::<_, Error>(generate(source, |generator| generator.compile_expr(&meter_expression(&tree))))
        })?;
        Ok(Self { kind: Kind::Expression, code, names })
    }

    /// Of a whole text; `harmless` as above.
    pub(super) fn of_text(
        source: &str,
        harmless: &str,
        environment: &Environment<'static>,
        syntax: &SyntaxConfig,
    ) -> Result<Self, Error> {
        let names = environment.template_from_str(harmless)?.undeclared_variables(true).into_iter().collect();
        let code = Owned::try_new(source.to_owned(), |source| {
            let tree = parse(source, NAME, syntax.clone())?;
            Ok::<_, Error>(generate(source, |generator| generator.compile_stmt(&meter_template(&tree))))
        })?;
        Ok(Self { kind: Kind::Text, code, names })
    }

    /// The value in a context.
    pub(super) fn evaluate(&self, environment: &'static Environment<'static>, root: Value) -> Result<Value, Error> {
        self.code.with_dependent(|_, code| {
            let mut text = String::new();
            let mut output = make_string_output(&mut text);
            let evaluated =
                eval(environment, &code.instructions, root, &code.blocks, &mut output, AutoEscape::None).map(|it| it.0);
            drop(output);
            match self.kind {
                Kind::Expression => evaluated.map(Option::unwrap_or_default),
                Kind::Text => evaluated.map(|_| Value::from(text)),
            }
        })
    }
}

fn generate<'s>(source: &'s str, compile: impl FnOnce(&mut CodeGenerator<'s>)) -> Code<'s> {
    let mut generator = CodeGenerator::new(NAME, source);
    compile(&mut generator);
    let (instructions, blocks) = generator.finish();
    Code { instructions, blocks }
}
