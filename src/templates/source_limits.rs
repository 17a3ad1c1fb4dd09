//! Which templates are parsed at all. The engine's parser, its code generator and the tree between them call themselves
//! once for each level, also for levels that a chain of operators makes without any bracket: the depth is bounded before.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// Longer templates are refused: the engine counts lines and columns in 16 bits. What is no template may be longer.
const MOST_SOURCE_BYTES: usize = 65_000;

/// Operators, brackets, filters and attributes between the root of an expression and its deepest leaf.
const MOST_EXPRESSION_STEPS: usize = 200;

/// Blocks inside each other; each `elif` counts as one inside the branch before it.
const MOST_BLOCK_LEVELS: usize = 60;

/// Why a template is refused: the line, and the reason.
pub(super) type Refusal = (usize, String);

/// Checks a template; what its tokens cannot be read from is left to the parser to explain.
///
/// Gives back the template with the same names in the same places, but with a `-` for every operator that makes more of
/// literals: the engine computes those when it compiles, and it is asked for the names before anything is metered.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<String, Refusal> {
    if source.len() > MOST_SOURCE_BYTES {
        return Err((
            1,
            format!("it is longer than {MOST_SOURCE_BYTES} bytes; put long texts into a file or the datastore"),
        ));
    }
    let mut scan = Scan::default();
    let mut harmless = source.as_bytes().to_vec();
    for (token, span) in tokenize(source, false, syntax.clone()).map_while(Result::ok) {
        scan.take(&token).map_err(|reason| (usize::from(span.start_line), reason))?;
        if matches!(token, Token::Plus | Token::Mul | Token::Tilde)
            && let Some(operator) = harmless.get_mut(span.start_offset as usize)
        {
            *operator = b'-';
        }
    }
    String::from_utf8(harmless).map_err(|_| (1, "it is not UTF-8".to_owned()))
}

#[derive(Default)]
struct Scan<'s> {
    /// Steps at each open bracket of the expression, the outermost first.
    steps: Vec<usize>,
    /// The levels that each open block counts for.
    blocks: Vec<usize>,
    /// The keyword of the block tag that is being read, and whether an `=` was in it.
    tag: Option<(&'s str, bool)>,
    is_keyword_next: bool,
}

impl<'s> Scan<'s> {
    fn take(&mut self, token: &Token<'s>) -> Result<(), String> {
        match token {
            Token::VariableStart => self.steps = vec![0],
            Token::BlockStart => {
                self.steps = vec![0];
                self.is_keyword_next = true;
            }
            Token::BlockEnd => return self.end_tag(),
            Token::Ident(keyword) if self.is_keyword_next => {
                self.tag = Some((keyword, false));
                self.is_keyword_next = false;
            }
            Token::Assign => self.tag = self.tag.map(|(keyword, _)| (keyword, true)),
            Token::Comma | Token::Colon => self.end_part(),
            Token::BracketClose | Token::ParenClose | Token::BraceClose => drop(self.steps.pop()),
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => {
                self.step()?;
                self.steps.push(0);
            }
            Token::Ident("if" | "else" | "and" | "or" | "not" | "in" | "is")
            | Token::Dot
            | Token::Tilde
            | Token::Pipe
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::FloorDiv
            | Token::Pow
            | Token::Mod
            | Token::Eq
            | Token::Ne
            | Token::Gt
            | Token::Gte
            | Token::Lt
            | Token::Lte => return self.step(),
            Token::Ident(_)
            | Token::Str(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Int128(_)
            | Token::Float(_)
            | Token::TemplateData(_)
            | Token::VariableEnd => {}
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        if let Some(last) = self.steps.last_mut() {
            *last += 1;
        }
        if self.steps.iter().sum::<usize>() > MOST_EXPRESSION_STEPS {
            return Err(format!(
                "an expression has more than {MOST_EXPRESSION_STEPS} operators, brackets and filters on one path; split it with `{{% set %}}`"
            ));
        }
        Ok(())
    }

    /// What follows is beside what came before, not below it.
    fn end_part(&mut self) {
        if let Some(last) = self.steps.last_mut() {
            *last = 0;
        }
    }

    fn end_tag(&mut self) -> Result<(), String> {
        match self.tag.take() {
            Some(("set", true)) | None => {}
            Some(("for" | "if" | "with" | "macro" | "call" | "filter" | "set" | "block" | "autoescape", _)) => {
                self.blocks.push(1);
            }
            Some(("elif", _)) => {
                if let Some(last) = self.blocks.last_mut() {
                    *last += 1;
                }
            }
            Some((keyword, _)) if keyword.starts_with("end") => drop(self.blocks.pop()),
            Some(_) => {}
        }
        if self.blocks.iter().sum::<usize>() > MOST_BLOCK_LEVELS {
            return Err(format!(
                "blocks are nested deeper than {MOST_BLOCK_LEVELS} levels, each `elif` counted as one"
            ));
        }
        Ok(())
    }
}
