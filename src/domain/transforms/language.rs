//! The subset of MiniJinja that templates may use.
//!
//! MiniJinja counts the work of a template, with two exceptions: values that are larger as text than in memory, and lists that
//! are evaluated later. For example, `[a, a]`, repeated 40 times, has 2^40 elements and needs no memory until it becomes text. So
//! a template must not nest, repeat or join lists and maps, except in the expression that prints them. Every value is therefore a
//! text, a number, a part of the event, or a list of such values.

use std::cell::Cell;

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, Stmt, UnaryOpKind};
use minijinja::machinery::{Span, parse};
use minijinja::syntax::SyntaxConfig;

/// The filters that a template may use. `format` is excluded, because MiniJinja counts neither its result nor all its arguments.
const FILTERS: &str = "abs attr bool capitalize clock count d default dictsort e escape first float indent int items join last \
     length lines list lower map max min reject rejectattr replace reverse round safe select selectattr sort split \
     string sum title tojson trim unique upper";

/// The tests that a template may use. `in` and `sameas` are excluded, because MiniJinja does not count their work.
const TESTS: &str = "!= < <= == > >= boolean defined divisibleby endingwith eq equalto even false float ge greaterthan gt int \
     integer iterable le lessthan lower lt mapping ne none number odd sequence startingwith string true undefined \
     upper";

/// Maximum number of slices. A slice is evaluated later, so nested slices multiply the work of each item.
const MAX_SLICES: usize = 8;

/// Filters that apply another filter or a test to each item.
const OF_ITEMS: &str = "map reject rejectattr select selectattr";

/// Checks that a template uses only the subset. The compiler reports a template that is not valid MiniJinja.
///
/// # Errors
/// The rule that the template breaks, with the line.
pub(super) fn check(source: &str) -> Result<(), String> {
    let checker = Checker { slices: Cell::new(0) };
    parse(source, "<string>", SyntaxConfig::default()).map_or(Ok(()), |tree| checker.statement(&tree))
}

struct Checker {
    /// Number of slices.
    slices: Cell<usize>,
}

impl Checker {
    fn statements(&self, statements: &[Stmt<'_>]) -> Result<(), String> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&self, statement: &Stmt<'_>) -> Result<(), String> {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.printed(&emit.expr),
            Stmt::ForLoop(each) => {
                self.expression(&each.iter)?;
                self.expressions(&each.filter_expr)?;
                self.statements(&each.body)?;
                self.statements(&each.else_body)
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr)?;
                self.statements(&condition.true_body)?;
                self.statements(&condition.false_body)
            }
            Stmt::WithBlock(with) => {
                self.expressions(with.assignments.iter().map(|(_, value)| value))?;
                self.statements(&with.body)
            }
            Stmt::Set(set) => self.expression(&set.expr),
            Stmt::SetBlock(set) => {
                self.expressions(&set.filter)?;
                self.statements(&set.body)
            }
            Stmt::AutoEscape(block) => {
                self.expression(&block.enabled)?;
                self.statements(&block.body)
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter)?;
                self.statements(&block.body)
            }
            Stmt::Do(statement) => self.call(&statement.call, statement.call.span()),
        }
    }

    /// Checks an expression that is printed, alone or with `tojson`. The expression may be a list or map with any values.
    fn printed(&self, expr: &Expr<'_>) -> Result<(), String> {
        match expr {
            Expr::List(list) => list.items.iter().try_for_each(|item| self.printed(item)),
            Expr::Map(map) => {
                self.expressions(&map.keys)?;
                map.values.iter().try_for_each(|value| self.printed(value))
            }
            Expr::Filter(filter) if filter.name == "tojson" && filter.args.is_empty() => {
                filter.expr.iter().try_for_each(|expr| self.printed(expr))
            }
            _ => self.expression(expr),
        }
    }

    fn expressions<'a>(&self, exprs: impl IntoIterator<Item = &'a Expr<'a>>) -> Result<(), String> {
        exprs.into_iter().try_for_each(|expr| self.expression(expr))
    }

    fn expression(&self, expr: &Expr<'_>) -> Result<(), String> {
        let constant = |items: &[Expr<'_>]| items.iter().all(|item| matches!(item, Expr::Const(_)));
        match expr {
            Expr::Var(_) | Expr::Const(_) => Ok(()),
            Expr::List(list) if constant(&list.items) => Ok(()),
            Expr::Tuple(tuple) if constant(&tuple.items) => Ok(()),
            Expr::Map(map) if constant(&map.keys) && constant(&map.values) => Ok(()),
            Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => {
                broken("a list or map must have only constants, unless it is printed as it is", expr.span())
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::GetAttr(get) => self.expression(&get.expr),
            Expr::GetItem(get) => self.expressions([&get.expr, &get.subscript_expr]),
            Expr::Slice(slice) => {
                self.slices.set(self.slices.get() + 1);
                if self.slices.get() > MAX_SLICES {
                    return broken(&format!("a template must have at most {MAX_SLICES} slices"), expr.span());
                }
                self.expression(&slice.expr)?;
                self.expressions([&slice.start, &slice.stop, &slice.step].into_iter().flatten())
            }
            Expr::IfExpr(choice) => {
                self.expressions([&choice.test_expr, &choice.true_expr])?;
                self.expressions(&choice.false_expr)
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr)?;
                self.expressions(compare.ops.iter().map(|operation| &operation.expr))
            }
            Expr::BinOp(operation) => {
                let operands = [&operation.left, &operation.right];
                let numbers = operands.iter().filter(|operand| is_number(operand)).count();
                match operation.op {
                    BinOpKind::Add if numbers == 0 => {
                        broken("`+` needs a number: use `|int` or `|float`, or `~` for texts", expr.span())
                    }
                    BinOpKind::Mul if numbers < 2 => {
                        broken("`*` needs two numbers: use `|int` or `|float`", expr.span())
                    }
                    _ => self.expressions(operands),
                }
            }
            Expr::Filter(filter) => self.filter(filter, expr.span()),
            Expr::Test(test) if has(TESTS, test.name) => {
                self.expression(&test.expr)?;
                self.arguments(&test.args, expr.span())
            }
            Expr::Test(test) => broken(&format!("the test `{}` is not available", test.name), expr.span()),
            Expr::Call(call) => self.call(call, expr.span()),
        }
    }

    fn filter(&self, filter: &Filter<'_>, span: Span) -> Result<(), String> {
        let unavailable = |name: &str| broken(&format!("the filter `{name}` is not available"), span);
        if !has(FILTERS, filter.name) {
            return unavailable(filter.name);
        }
        if has(OF_ITEMS, filter.name) {
            let place = usize::from(filter.name.ends_with("attr"));
            let known = if filter.name == "map" { FILTERS } else { TESTS };
            for (index, argument) in filter.args.iter().enumerate() {
                match argument {
                    // A default would be repeated for each item.
                    CallArg::Kwarg("default", _) => return broken("`map` has no `default` here", span),
                    CallArg::Pos(Expr::Const(name)) if index == place => {
                        let name = name.value.as_str().unwrap_or_default();
                        if !has(known, name) || has(OF_ITEMS, name) || matches!(name, "d" | "default" | "sum")
                        {
                            return unavailable(&format!("{}({name:?})", filter.name));
                        }
                    }
                    CallArg::Pos(_) if index == place => {
                        return broken(&format!("`{}` needs a name in quotes", filter.name), span);
                    }
                    _ => {}
                }
            }
        }
        // A sum that starts with a text or a list would copy it for each item.
        if filter.name == "sum"
            && !filter.args.iter().all(|arg| matches!(arg, CallArg::Kwarg("attribute", _)))
        {
            return broken("`sum` has only the parameter `attribute`", span);
        }
        self.expressions(&filter.expr)?;
        self.arguments(&filter.args, span)
    }

    fn call(&self, call: &Call<'_>, span: Span) -> Result<(), String> {
        match &call.expr {
            Expr::Var(name) if matches!(name.id, "range" | "loop") => {}
            Expr::GetAttr(method) if matches!(method.name, "cycle" | "changed") => {
                self.expression(&method.expr)?;
            }
            _ => return broken("only `range`, `loop`, `loop.cycle` and `loop.changed` can be called", span),
        }
        self.arguments(&call.args, span)
    }

    fn arguments(&self, arguments: &[CallArg<'_>], span: Span) -> Result<(), String> {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(expr) | CallArg::Kwarg(_, expr) => self.expression(expr),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => broken("arguments cannot be unpacked", span),
        })
    }
}

/// Whether the value of the expression is a number, unless the evaluation fails.
fn is_number(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(constant) => constant.value.is_number(),
        Expr::Filter(filter) => match filter.name {
            "abs" | "count" | "length" | "round" => true,
            // An argument is the result for a value that is no number.
            "float" | "int" => filter.args.is_empty(),
            _ => false,
        },
        Expr::UnaryOp(unary) => matches!(unary.op, UnaryOpKind::Neg),
        Expr::BinOp(operation) => matches!(
            operation.op,
            BinOpKind::Add
                | BinOpKind::Sub
                | BinOpKind::Mul
                | BinOpKind::Div
                | BinOpKind::FloorDiv
                | BinOpKind::Rem
                | BinOpKind::Pow
        ),
        _ => false,
    }
}

/// Whether a list of words has this word.
fn has(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

fn broken(rule: &str, span: Span) -> Result<(), String> {
    Err(format!("{rule} (line {})", span.start_line))
}
