//! A template's tree with the budget in it: whatever makes a value, or takes one that may be large, asks first.
//!
//! The engine has no hook for each instruction. Between its parser and its code generator the tree is therefore built
//! anew, with calls of our functions around operators, filters, calls, literals, loops and the text inside loops. What
//! a template means stays the same; names as [`MADE`] cannot be written in one. A plain path such as `trigger.body.name`
//! makes nothing and has no call around it.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, CallType, Expr, Spanned, Stmt};

/// Charges for the value and gives it back: for what was made.
pub(super) const MADE: &str = "<made>";
/// The same for what is about to be read through; also for what is not defined.
pub(super) const USED: &str = "<used>";
/// The same for what a namespace is to hold: only data, or it could hold itself.
pub(super) const DATA: &str = "<data>";
/// The operators that make large values of small ones.
pub(super) const ADD: &str = "<add>";
pub(super) const CONCAT: &str = "<concat>";
pub(super) const MULTIPLY: &str = "<multiply>";

/// A single expression.
pub(super) fn meter_expression<'a>(expr: &Expr<'a>) -> Expr<'a> {
    rebuild(expr)
}

/// A whole template.
pub(super) fn meter_template<'a>(template: &Stmt<'a>) -> Stmt<'a> {
    statement(template, Runs::Once)
}

/// Does a part of the template run more than once? Its own text is charged each time then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    Once,
    Often,
}

fn call<'a>(function: &'static str, args: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    let name = Expr::Var(Spanned::new(ast::Var { id: function }, span));
    let args = args.into_iter().map(CallArg::Pos).collect();
    Expr::Call(Spanned::new(ast::Call { expr: name, args }, span))
}

/// The expression, and a charge for its value if it makes one.
fn made<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let rebuilt = rebuild(expr);
    match &rebuilt {
        // The operators charge themselves.
        Expr::Slice(_) | Expr::Filter(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => {
            let span = rebuilt.span();
            call(MADE, vec![rebuilt], span)
        }
        Expr::Call(called) if !is_ours(called) => {
            let span = rebuilt.span();
            call(MADE, vec![rebuilt], span)
        }
        Expr::Call(_)
        | Expr::Var(_)
        | Expr::Const(_)
        | Expr::GetAttr(_)
        | Expr::GetItem(_)
        | Expr::UnaryOp(_)
        | Expr::BinOp(_)
        | Expr::Compare(_)
        | Expr::IfExpr(_)
        | Expr::Test(_) => rebuilt,
    }
}

fn is_ours(called: &ast::Call<'_>) -> bool {
    matches!(called.identify_call(), CallType::Function(name) if name.starts_with('<'))
}

/// The expression as something that is read through.
fn used<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let made = made(expr);
    match &made {
        Expr::Const(_) => made,
        Expr::Var(variable) if matches!(variable.id, "loop" | "self" | "caller") => made,
        _ => {
            let span = made.span();
            call(USED, vec![made], span)
        }
    }
}

fn made_all<'a>(exprs: &[Expr<'a>]) -> Vec<Expr<'a>> {
    exprs.iter().map(made).collect()
}

/// The value of a literal. The engine would compute operators of literals as well, of any size.
fn literal(expr: &Expr<'_>) -> Option<minijinja::Value> {
    match expr {
        Expr::Const(constant) => Some(constant.value.clone()),
        Expr::List(list) => list.as_const(),
        Expr::Tuple(tuple) => tuple.as_const(),
        Expr::Map(map) => map.as_const(),
        _ => None,
    }
}

/// The same expression over metered parts.
fn rebuild<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let span = expr.span();
    if let Some(value) = literal(expr) {
        return Expr::Const(Spanned::new(ast::Const { value }, span));
    }
    match expr {
        Expr::Const(it) => Expr::Const(Spanned::new(ast::Const { value: it.value.clone() }, span)),
        Expr::Var(variable) => Expr::Var(Spanned::new(ast::Var { id: variable.id }, span)),
        Expr::GetAttr(it) => Expr::GetAttr(Spanned::new(ast::GetAttr { expr: made(&it.expr), name: it.name }, span)),
        Expr::GetItem(it) => {
            let item = ast::GetItem { expr: made(&it.expr), subscript_expr: made(&it.subscript_expr) };
            Expr::GetItem(Spanned::new(item, span))
        }
        Expr::Slice(it) => Expr::Slice(Spanned::new(slice(it), span)),
        Expr::UnaryOp(it) => {
            Expr::UnaryOp(Spanned::new(ast::UnaryOp { op: unary(&it.op), expr: made(&it.expr) }, span))
        }
        Expr::BinOp(it) => binary(it, span),
        Expr::Compare(it) => Expr::Compare(Spanned::new(compare(it), span)),
        Expr::IfExpr(it) => Expr::IfExpr(Spanned::new(
            ast::IfExpr {
                test_expr: made(&it.test_expr),
                true_expr: made(&it.true_expr),
                false_expr: it.false_expr.as_ref().map(made),
            },
            span,
        )),
        Expr::Filter(it) => Expr::Filter(Spanned::new(
            ast::Filter { name: it.name, expr: it.expr.as_ref().map(used), args: arguments(&it.args) },
            span,
        )),
        Expr::Test(it) => Expr::Test(Spanned::new(test(it), span)),
        Expr::Call(it) => Expr::Call(Spanned::new(called(it), span)),
        Expr::List(it) => Expr::List(Spanned::new(ast::List { items: made_all(&it.items) }, span)),
        Expr::Tuple(it) => Expr::Tuple(Spanned::new(ast::Tuple { items: made_all(&it.items) }, span)),
        Expr::Map(it) => {
            let map = ast::Map { keys: made_all(&it.keys), values: made_all(&it.values) };
            Expr::Map(Spanned::new(map, span))
        }
    }
}

/// What is assigned to: names, also in an empty list, which is no value here.
fn target<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::List(it) => {
            let items = it.items.iter().map(target).collect();
            Expr::List(Spanned::new(ast::List { items }, expr.span()))
        }
        other => rebuild(other),
    }
}

fn slice<'a>(it: &ast::Slice<'a>) -> ast::Slice<'a> {
    ast::Slice {
        expr: used(&it.expr),
        start: it.start.as_ref().map(made),
        stop: it.stop.as_ref().map(made),
        step: it.step.as_ref().map(made),
    }
}

const fn unary(op: &ast::UnaryOpKind) -> ast::UnaryOpKind {
    match op {
        ast::UnaryOpKind::Not => ast::UnaryOpKind::Not,
        ast::UnaryOpKind::Neg => ast::UnaryOpKind::Neg,
    }
}

fn binary<'a>(it: &ast::BinOp<'a>, span: Span) -> Expr<'a> {
    let ours = |function| call(function, vec![made(&it.left), made(&it.right)], span);
    let rebuilt = |left, right| Expr::BinOp(Spanned::new(ast::BinOp { op: it.op, left, right }, span));
    match it.op {
        BinOpKind::Add => ours(ADD),
        BinOpKind::Concat => ours(CONCAT),
        BinOpKind::Mul => ours(MULTIPLY),
        BinOpKind::Eq
        | BinOpKind::Ne
        | BinOpKind::Lt
        | BinOpKind::Lte
        | BinOpKind::Gt
        | BinOpKind::Gte
        | BinOpKind::In => rebuilt(used(&it.left), used(&it.right)),
        BinOpKind::ScAnd
        | BinOpKind::ScOr
        | BinOpKind::Sub
        | BinOpKind::Div
        | BinOpKind::FloorDiv
        | BinOpKind::Rem
        | BinOpKind::Pow => rebuilt(made(&it.left), made(&it.right)),
    }
}

fn compare<'a>(it: &ast::Compare<'a>) -> ast::Compare<'a> {
    let operand = |operand: &ast::CompareOp<'a>| ast::CompareOp { op: operand.op, expr: used(&operand.expr) };
    ast::Compare { expr: used(&it.expr), ops: it.ops.iter().map(operand).collect() }
}

fn test<'a>(it: &ast::Test<'a>) -> ast::Test<'a> {
    let asks_for_presence = matches!(it.name, "defined" | "undefined" | "none");
    let expr = if asks_for_presence { made(&it.expr) } else { used(&it.expr) };
    ast::Test { name: it.name, expr, args: arguments(&it.args) }
}

fn called<'a>(it: &ast::Call<'a>) -> ast::Call<'a> {
    let expr = match &it.expr {
        Expr::GetAttr(method) => {
            Expr::GetAttr(Spanned::new(ast::GetAttr { expr: used(&method.expr), name: method.name }, it.expr.span()))
        }
        other => made(other),
    };
    ast::Call { expr, args: arguments(&it.args) }
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let argument = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => CallArg::Pos(used(expr)),
        CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, used(expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(used(expr)),
        CallArg::KwargSplat(expr) => CallArg::KwargSplat(used(expr)),
    };
    args.iter().map(argument).collect()
}

fn body<'a>(statements: &[Stmt<'a>], runs: Runs) -> Vec<Stmt<'a>> {
    statements.iter().map(|it| statement(it, runs)).collect()
}

#[expect(clippy::too_many_lines, reason = "one arm for each kind of statement")]
fn statement<'a>(stmt: &Stmt<'a>, runs: Runs) -> Stmt<'a> {
    match stmt {
        Stmt::Template(it) => {
            Stmt::Template(Spanned::new(ast::Template { children: body(&it.children, runs) }, it.span()))
        }
        // The formatter charges for what is put out.
        Stmt::EmitExpr(it) => Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: rebuild(&it.expr) }, it.span())),
        Stmt::EmitRaw(it) if runs == Runs::Once => Stmt::EmitRaw(Spanned::new(ast::EmitRaw { raw: it.raw }, it.span())),
        Stmt::EmitRaw(it) => {
            let text = Expr::Const(Spanned::new(ast::Const { value: it.raw.into() }, it.span()));
            Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: text }, it.span()))
        }
        Stmt::ForLoop(it) => Stmt::ForLoop(Spanned::new(
            ast::ForLoop {
                target: target(&it.target),
                iter: used(&it.iter),
                filter_expr: it.filter_expr.as_ref().map(made),
                recursive: it.recursive,
                body: body(&it.body, Runs::Often),
                else_body: body(&it.else_body, runs),
            },
            it.span(),
        )),
        Stmt::IfCond(it) => Stmt::IfCond(Spanned::new(
            ast::IfCond {
                expr: made(&it.expr),
                true_body: body(&it.true_body, runs),
                false_body: body(&it.false_body, runs),
            },
            it.span(),
        )),
        Stmt::WithBlock(it) => {
            let assignment = |(assigned, expr): &(Expr<'a>, Expr<'a>)| (target(assigned), made(expr));
            let assignments = it.assignments.iter().map(assignment).collect();
            Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body: body(&it.body, runs) }, it.span()))
        }
        Stmt::Set(it) => Stmt::Set(Spanned::new(set(it), it.span())),
        Stmt::SetBlock(it) => Stmt::SetBlock(Spanned::new(
            ast::SetBlock {
                target: target(&it.target),
                filter: it.filter.as_ref().map(made),
                body: body(&it.body, runs),
            },
            it.span(),
        )),
        Stmt::AutoEscape(it) => Stmt::AutoEscape(Spanned::new(
            ast::AutoEscape { enabled: made(&it.enabled), body: body(&it.body, runs) },
            it.span(),
        )),
        Stmt::FilterBlock(it) => Stmt::FilterBlock(Spanned::new(
            ast::FilterBlock { filter: made(&it.filter), body: body(&it.body, runs) },
            it.span(),
        )),
        Stmt::Block(it) => Stmt::Block(Spanned::new(
            ast::Block { name: it.name, required: it.required, body: body(&it.body, Runs::Often) },
            it.span(),
        )),
        Stmt::Import(it) => {
            Stmt::Import(Spanned::new(ast::Import { expr: made(&it.expr), name: target(&it.name) }, it.span()))
        }
        Stmt::FromImport(it) => {
            let name = |(name, alias): &(Expr<'a>, Option<Expr<'a>>)| (rebuild(name), alias.as_ref().map(target));
            let names = it.names.iter().map(name).collect();
            Stmt::FromImport(Spanned::new(ast::FromImport { expr: made(&it.expr), names }, it.span()))
        }
        Stmt::Extends(it) => Stmt::Extends(Spanned::new(ast::Extends { name: made(&it.name) }, it.span())),
        Stmt::Include(it) => Stmt::Include(Spanned::new(
            ast::Include { name: made(&it.name), ignore_missing: it.ignore_missing },
            it.span(),
        )),
        Stmt::Macro(it) => Stmt::Macro(macro_of(it)),
        Stmt::CallBlock(it) => Stmt::CallBlock(Spanned::new(
            ast::CallBlock {
                call: Spanned::new(called(&it.call), it.call.span()),
                macro_decl: macro_of(&it.macro_decl),
            },
            it.span(),
        )),
        Stmt::Continue(it) => Stmt::Continue(Spanned::new(ast::Continue, it.span())),
        Stmt::Break(it) => Stmt::Break(Spanned::new(ast::Break, it.span())),
        Stmt::Do(it) => {
            let call = Spanned::new(called(&it.call), it.call.span());
            Stmt::Do(Spanned::new(ast::Do { call }, it.span()))
        }
    }
}

fn set<'a>(it: &ast::Set<'a>) -> ast::Set<'a> {
    let value = made(&it.expr);
    let expr = match &it.target {
        Expr::GetAttr(_) => call(DATA, vec![value], it.expr.span()),
        _ => value,
    };
    ast::Set { target: target(&it.target), expr }
}

fn macro_of<'a>(it: &Spanned<ast::Macro<'a>>) -> Spanned<ast::Macro<'a>> {
    let declared = ast::Macro {
        name: it.name,
        args: it.args.iter().map(target).collect(),
        defaults: it.defaults.iter().map(made).collect(),
        body: body(&it.body, Runs::Often),
    };
    Spanned::new(declared, it.span())
}
