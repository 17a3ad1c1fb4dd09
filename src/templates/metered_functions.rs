//! What metered templates call: charges around values, and the operators, filters and methods whose result may be far
//! larger than what they are given. Those compute the size of the result and charge for it before they make it.

use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::value::{Object, ObjectRepr, Rest, ValueKind};
use minijinja::{Environment, Error, Expression, State, Value, context, filters};

use crate::templates::budget::{Weight, charge, charge_for, charge_value, refused, weigh};
use crate::templates::metering::{ADD, CONCAT, DATA, MADE, MULTIPLY, USED};

/// What an item of a list takes in the engine, where a text becomes a list of its parts.
const ITEM_BYTES: usize = 8;

/// Adds the functions that a metered tree calls, and takes the place of filters that make much of little.
pub(super) fn register(environment: &mut Environment<'static>) {
    add_function(environment, MADE, |args| charge_for(args).map(|()| first(args)));
    add_function(environment, USED, |args| charge_for(args).map(|()| first(args)));
    add_function(environment, DATA, check_data);
    add_function(environment, ADD, |args| operate(args, &SUM, both));
    add_function(environment, CONCAT, |args| operate(args, &JOINED, both));
    add_function(environment, MULTIPLY, |args| operate(args, &PRODUCT, size_of_product));
    add_filters(environment);
    environment.add_test("in", |state: &State<'_, '_>, value: &Value, container: &Value| {
        charge_for(std::slice::from_ref(container))?;
        minijinja::tests::is_in(state, value, container)
    });
}

/// A function that sees its arguments as they are: those that are not defined as well, which a filter may want.
struct Metered {
    name: &'static str,
    call: fn(&[Value]) -> Result<Value, Error>,
}

impl Object for Metered {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        (self.call)(args)
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn add_function(
    environment: &mut Environment<'static>,
    name: &'static str,
    call: fn(&[Value]) -> Result<Value, Error>,
) {
    environment.add_global(name, Value::from_object(Metered { name, call }));
}

fn first(args: &[Value]) -> Value {
    args.first().cloned().unwrap_or_default()
}

/// A namespace that holds itself, or a macro that knows it, would never be freed.
fn check_data(args: &[Value]) -> Result<Value, Error> {
    charge_for(args)?;
    let value = first(args);
    if holds_data_only(&value)? {
        return Ok(value);
    }
    Err(refused("a namespace holds data only, no namespace, macro or loop".to_owned()))
}

fn holds_data_only(value: &Value) -> Result<bool, Error> {
    let Some(object) = value.as_object() else { return Ok(true) };
    if object.repr() == ObjectRepr::Plain || object.type_name().ends_with("::Namespace") {
        return Ok(false);
    }
    for item in value.try_iter()?.checked() {
        let item = item?;
        let inner = if object.repr() == ObjectRepr::Map { value.get_item(&item)? } else { item };
        if !holds_data_only(&inner)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The engine's own operators, in an environment without any of this.
static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);
static SUM: LazyLock<Operator> = LazyLock::new(|| operator("a + b"));
static JOINED: LazyLock<Operator> = LazyLock::new(|| operator("a ~ b"));
static PRODUCT: LazyLock<Operator> = LazyLock::new(|| operator("a * b"));

type Operator = Expression<'static, 'static>;

fn operator(source: &'static str) -> Operator {
    PLAIN.compile_expression(source).expect("an expression that is written here")
}

fn operate(
    args: &[Value],
    operator: &Operator,
    size: fn(&Value, &Value) -> Result<usize, Error>,
) -> Result<Value, Error> {
    let [left, right] = args else {
        return Err(refused("an operator has two sides".to_owned()));
    };
    if left.is_undefined() || right.is_undefined() {
        return Err(minijinja::ErrorKind::UndefinedError.into());
    }
    charge_value(size(left, right)?)?;
    let result = operator.eval(context! { a => left, b => right });
    // The place that it names is one in our operator.
    result.map_err(|error| Error::new(error.kind(), error.detail().unwrap_or_default().to_owned()))
}

fn both(left: &Value, right: &Value) -> Result<usize, Error> {
    Ok(weigh(left)?.bytes.saturating_add(weigh(right)?.bytes))
}

fn size_of_product(left: &Value, right: &Value) -> Result<usize, Error> {
    let repeats = |repeated: &Value, times: &Value| {
        let is_repeated = matches!(repeated.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable);
        times.as_usize().filter(|_| is_repeated)
    };
    match (repeats(left, right), repeats(right, left)) {
        (Some(times), _) => Ok(weigh(left)?.bytes.saturating_mul(times)),
        (None, Some(times)) => Ok(weigh(right)?.bytes.saturating_mul(times)),
        (None, None) => both(left, right),
    }
}

/// The size of a filter's result, as computed from its arguments.
type Size = fn(&[Value]) -> Result<usize, Error>;

fn add_filters(environment: &mut Environment<'static>) {
    let with_size: [(&'static str, Value, Size); 12] = [
        ("join", Value::from_function(filters::join), |args| {
            size_of_join(args.first(), args.get(1..).unwrap_or_default())
        }),
        ("replace", Value::from_function(filters::replace), size_of_replacement),
        ("indent", Value::from_function(filters::indent), size_of_indented),
        ("batch", Value::from_function(filters::batch), size_of_filled),
        ("slice", Value::from_function(filters::slice), size_of_filled),
        ("format", Value::from_function(filters::format), size_of_formatted),
        ("tojson", Value::from_function(filters::tojson), size_of_nested_text),
        ("pprint", Value::from_function(filters::pprint), size_of_nested_text),
        ("list", Value::from_function(filters::list), size_of_parts),
        ("split", Value::from_function(filters::split), size_of_parts),
        ("lines", Value::from_function(filters::lines), size_of_parts),
        ("map", Value::from_function(filters::map), size_of_parts),
    ];
    for (name, original, size) in with_size {
        environment.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<Value>| {
            charge_value(size(&args)?)?;
            original.call(state, &args)
        });
    }
}

/// Charges for what a method of Python is about to make.
pub(super) fn charge_method(value: &Value, method: &str, args: &[Value]) -> Result<(), Error> {
    let all = || std::iter::once(value).chain(args).cloned().collect::<Vec<_>>();
    let bytes = match method {
        "replace" => size_of_replacement(&all())?,
        "join" => size_of_join(args.first(), std::slice::from_ref(value))?,
        "format" => size_of_formatted(&all())?,
        "split" | "splitlines" => size_of_parts(&all())?,
        _ => return Ok(()),
    };
    charge_value(bytes)
}

fn size_of_join(list: Option<&Value>, joiners: &[Value]) -> Result<usize, Error> {
    let Some(list) = list else { return Ok(0) };
    let count = match list.as_str() {
        Some(text) => text.len(),
        None => list.len().unwrap_or(weigh(list)?.bytes),
    };
    let between = joiners.iter().map(longest_text).max().unwrap_or_default();
    Ok(count.saturating_mul(between).saturating_add(weigh(list)?.bytes))
}

/// The longest text that an argument is or names.
fn longest_text(argument: &Value) -> usize {
    if let Some(text) = argument.as_str() {
        return text.len();
    }
    values_of(argument).iter().filter_map(Value::as_str).map(str::len).max().unwrap_or_default()
}

/// The largest whole number that an argument is or names.
fn largest_number(argument: &Value) -> usize {
    let of_one = |value: &Value| value.as_usize().unwrap_or_default();
    values_of(argument).iter().map(of_one).max().unwrap_or_default().max(of_one(argument))
}

/// The values of arguments that are given by name.
fn values_of(argument: &Value) -> Vec<Value> {
    if !argument.is_kwargs() {
        return Vec::new();
    }
    let names = argument.try_iter().into_iter().flatten();
    names.filter_map(|name| argument.get_item(&name).ok()).collect()
}

fn text(value: Option<&Value>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn size_of_replacement(args: &[Value]) -> Result<usize, Error> {
    charge_for(args)?;
    let [whole, from, to] = [0, 1, 2].map(|place| text(args.get(place)));
    let times = if from.is_empty() { whole.chars().count() + 1 } else { whole.matches(from.as_str()).count() };
    Ok(times.saturating_mul(to.len()).saturating_add(whole.len()))
}

fn size_of_indented(args: &[Value]) -> Result<usize, Error> {
    charge_for(args)?;
    let whole = text(args.first());
    let width = args.iter().skip(1).map(largest_number).max().unwrap_or_default().max(4);
    Ok((whole.lines().count() + 1).saturating_mul(width).saturating_add(whole.len()))
}

fn size_of_filled(args: &[Value]) -> Result<usize, Error> {
    let count = args.iter().skip(1).map(largest_number).max().unwrap_or_default();
    Ok(count.saturating_mul(ITEM_BYTES).saturating_add(size_of_parts(args)?))
}

/// Every directive may show every argument; widths and precisions are numbers in the format, or arguments: for a `*`, or for
/// a directive inside another one.
fn size_of_formatted(args: &[Value]) -> Result<usize, Error> {
    let format = text(args.first());
    let directives = format.matches(['%', '{']).count();
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let widths = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
    let mut shown = 0_usize;
    for argument in args.iter().skip(1) {
        shown = shown.saturating_add(weigh(argument)?.bytes);
    }
    let from_arguments =
        args.iter().skip(1).map(largest_number).max().filter(|_| format.contains('*') || format.contains(":{"));
    let each = shown.saturating_add(from_arguments.unwrap_or_default());
    Ok(directives.saturating_mul(each).saturating_add(widths).saturating_add(format.len()))
}

/// Text of a value over several lines: each is indented by its level.
fn size_of_nested_text(args: &[Value]) -> Result<usize, Error> {
    let indent = args.iter().skip(1).map(largest_number).max().unwrap_or_default();
    args.first().map_or(Ok(0), |value| size_indented(value, indent))
}

/// The text of a value whose lines are indented by so much for each level.
pub(super) fn size_indented(value: &Value, indent: usize) -> Result<usize, Error> {
    let Weight { bytes, levels } = weigh(value)?;
    Ok(bytes.saturating_add((bytes / ITEM_BYTES).saturating_mul(levels).saturating_mul(indent)))
}

/// A text that becomes a list may become one item for each of its bytes.
fn size_of_parts(args: &[Value]) -> Result<usize, Error> {
    let text_bytes = args.first().and_then(Value::as_str).map_or(0, str::len);
    let whole = args.first().map(weigh).transpose()?.map_or(0, |weight| weight.bytes);
    Ok(text_bytes.saturating_mul(ITEM_BYTES).saturating_add(whole))
}

/// One application of a regular expression: it is compiled, and may go back many steps.
const PATTERN_BYTES: usize = 64 << 10;

/// Charges for matching a pattern against a text once.
pub(super) fn charge_match(text: &str) -> Result<(), Error> {
    charge(PATTERN_BYTES.saturating_add(text.len()))
}
