//! What can be known of a script without running it: the actions it names literally, for cross-checks at load.

use rhai::{ASTNode, Dynamic, Expr, FnCallExpr, Map, Position as Place};

use crate::model::refs::ActionRef;
use crate::workflows::bundle::Bundle;

/// A place in a script that names an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticCall {
    /// The script or import.
    pub file: String,
    /// Line from 1.
    pub line: usize,
    /// Column from 1.
    pub column: usize,
    /// Who names it.
    pub via: Via,
    /// The reference as written; `None` if it is computed.
    pub reference: Option<String>,
    /// The reference, if it is one.
    pub action: Option<ActionRef>,
    /// Names of the parameters in order; `None` if they are computed.
    pub params: Option<Vec<String>>,
}

/// How a script names an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `run(…)`.
    Run,
    /// `spawn(…)`.
    Spawn,
    /// `on_rollback(…)`.
    OnRollback,
    /// The option `undo` of one of the others.
    Undo,
}

/// Every place of a bundle that names an action.
pub fn lint(bundle: &Bundle) -> Vec<StaticCall> {
    let mut calls = Vec::new();
    for (file, ast) in bundle.asts() {
        ast.walk(&mut |path| {
            if let Some(ASTNode::Expr(Expr::FnCall(call, place))) = path.last() {
                add_call(&mut calls, file, call, *place);
            }
            true
        });
    }
    calls.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    calls
}

fn add_call(calls: &mut Vec<StaticCall>, file: &str, call: &FnCallExpr, place: Place) {
    let via = match call.name.as_str() {
        "run" => Via::Run,
        "spawn" => Via::Spawn,
        "on_rollback" => Via::OnRollback,
        _ => return,
    };
    let [reference, rest @ ..] = call.args.as_slice() else { return };
    calls.push(static_call(file, via, place, reference, rest.first()));
    if let Some(Literal::List(undo)) = rest.get(1).and_then(|options| field(options, "undo"))
        && let [reference, rest @ ..] = undo.as_slice()
    {
        calls.push(static_call(file, Via::Undo, place, reference, rest.first()));
    }
}

fn static_call(file: &str, via: Via, place: Place, reference: &Expr, params: Option<&Expr>) -> StaticCall {
    let reference = literal(reference).and_then(Literal::into_text);
    let params = params.map_or_else(|| Some(Vec::new()), |params| literal(params).and_then(Literal::into_names));
    StaticCall {
        file: file.to_owned(),
        line: place.line().unwrap_or(0),
        column: place.position().unwrap_or(0),
        via,
        action: reference.as_deref().and_then(|text| text.parse().ok()),
        reference,
        params,
    }
}

/// The part of an expression that is written out.
enum Literal {
    Text(String),
    /// Elements of an array.
    List(Vec<Expr>),
    /// Keys of a map.
    Names(Vec<String>),
}

impl Literal {
    fn into_text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn into_names(self) -> Option<Vec<String>> {
        if let Self::Names(names) = self { Some(names) } else { None }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other expression is computed")]
fn literal(expr: &Expr) -> Option<Literal> {
    match expr {
        Expr::StringConstant(text, _) => Some(Literal::Text(text.to_string())),
        Expr::Array(items, _) => Some(Literal::List(items.to_vec())),
        Expr::Map(map, _) => Some(Literal::Names(map.0.iter().map(|(name, _)| name.as_str().to_owned()).collect())),
        // What is constant through and through, the compiler has folded.
        Expr::DynamicConstant(value, place) => constant(value, *place),
        _ => None,
    }
}

fn constant(value: &Dynamic, place: Place) -> Option<Literal> {
    if let Ok(items) = value.as_array_ref() {
        return Some(Literal::List(items.iter().map(|item| Expr::from_dynamic(item.clone(), place)).collect()));
    }
    let names = |map: &Map| map.keys().map(ToString::to_string).collect();
    value.as_map_ref().ok().map(|map| Literal::Names(names(&map)))
}

/// The literal value of a field of a literal map.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other expression is computed")]
fn field(expr: &Expr, name: &str) -> Option<Literal> {
    match expr {
        Expr::Map(map, _) => {
            let (_, value) = map.0.iter().find(|(key, _)| key.as_str() == name)?;
            literal(value)
        }
        Expr::DynamicConstant(value, place) => {
            let map = value.as_map_ref().ok()?;
            constant(map.get(name)?, *place)
        }
        _ => None,
    }
}
