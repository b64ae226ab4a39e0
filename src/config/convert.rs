//! The configuration as JSON, and back.
//!
//! The parsed statements ([`Document`]) are converted: comments, definitions and includes are gone. The form is
//! described in `docs/convert.md` and by `docs/config.schema.json`, which is generated from the same tables
//! ([`schema`]).

use serde_json::{Map, Number, Value, json};

use super::block::root_table;
use super::document::{Body, Document, Node, RAW};
use super::keyword::{Keyword, Shape, Table, Times};
use crate::base::near::nearest;

/// The version of the form.
const FORMAT: u64 = 1;
/// The key of the words between the keyword of a block and its brace.
const HEADER: &str = "@";
/// The key of the lines of a block that has entries instead of keywords.
const ENTRIES: &str = "entries";

/// Why JSON is not a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It is JSON of another form.
    #[error("{path}: {problem}")]
    Form {
        /// Where: keys and positions, `vrrp_instance[0].priority`.
        path: String,
        problem: String,
    },
}

impl Document {
    /// The document as JSON, indented.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut whole = Map::new();
        whole.insert("format".into(), FORMAT.into());
        // A list, because the order of blocks matters: tracked objects come before the blocks that track them.
        let statements = self.nodes.iter().filter_map(|node| {
            let keyword = node.keyword?;
            let mut one = Map::new();
            one.insert(keyword.name.into(), value(keyword, node));
            Some(Value::Object(one))
        });
        whole.insert("configuration".into(), Value::Array(statements.collect()));
        // Maps of strings to values can always be written.
        serde_json::to_string_pretty(&Value::Object(whole)).unwrap_or_default() + "\n"
    }

    /// Reads the output of [`Self::to_json`]. Values are not checked: that is left to loading the result of
    /// [`Self::to_conf`].
    ///
    /// # Errors
    /// If the text is not JSON, or not of this form.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let whole: Value = serde_json::from_slice(text)?;
        let Value::Object(mut whole) = whole else {
            return Err(form("", "an object is expected"));
        };
        match whole.remove("format") {
            Some(Value::Number(n)) if n.as_u64() == Some(FORMAT) => {}
            Some(other) => return Err(form("format", &format!("1 is expected, not {other}"))),
            None => return Err(form("format", "is missing")),
        }
        let Some(Value::Array(root)) = whole.remove("configuration") else {
            return Err(form("configuration", "a list is expected"));
        };
        if let Some(key) = whole.keys().next() {
            return Err(form(key, "is neither 'format' nor 'configuration'"));
        }
        let mut list = Vec::new();
        for (i, item) in root.into_iter().enumerate() {
            let path = format!("configuration[{i}]");
            let Value::Object(item) = item else {
                return Err(form(&path, "an object is expected"));
            };
            list.extend(nodes(root_table(), item, &path)?);
        }
        Ok(Self { nodes: list })
    }
}

fn form(path: &str, problem: &str) -> Error {
    let path = if path.is_empty() { "the whole" } else { path };
    Error::Form { path: path.into(), problem: problem.into() }
}

/// The statements of a block as an object.
fn block(nodes: &[Node]) -> Map<String, Value> {
    let mut object = Map::new();
    let mut entries = Vec::new();
    for node in nodes {
        let Some(keyword) = node.keyword else {
            entries.push(words(&node.words));
            continue;
        };
        let value = value(keyword, node);
        match object.get_mut(keyword.name) {
            None if several(keyword) => {
                object.insert(keyword.name.into(), Value::Array(vec![value]));
            }
            None => {
                object.insert(keyword.name.into(), value);
            }
            Some(Value::Array(list)) if several(keyword) => list.push(value),
            // A list in two blocks is one list.
            Some(Value::Array(list)) => match value {
                Value::Array(more) => list.extend(more),
                other => list.push(other),
            },
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    if !entries.is_empty() {
        object.insert(ENTRIES.into(), Value::Array(entries));
    }
    object
}

/// Whether the statements of a keyword form a list.
fn several(keyword: &Keyword) -> bool {
    let list = matches!((keyword.shape)(), Shape::Lines(_) | Shape::List(_));
    keyword.times == Times::Many && !list
}

fn value(keyword: &Keyword, node: &Node) -> Value {
    match &node.body {
        Body::Lines(lines) => Value::Array(lines.iter().map(|line| words(line)).collect()),
        Body::Block(inner) => {
            let mut object = Map::new();
            if !node.words.is_empty() {
                object.insert(HEADER.into(), words(&node.words));
            }
            object.extend(block(inner));
            Value::Object(object)
        }
        Body::None => typed(&(keyword.shape)(), &node.words),
    }
}

/// The words of a statement, as typed values where their type is certain.
fn typed(shape: &Shape, given: &[Vec<u8>]) -> Value {
    let only = match given {
        [only] => core::str::from_utf8(only).ok(),
        [] if matches!(shape, Shape::Flag | Shape::Boolean) => return Value::Bool(true),
        _ => None,
    };
    let number = |text: &str| {
        let number: Number = text.parse().ok()?;
        (decimal(&number) == text).then_some(Value::Number(number))
    };
    let typed = match (shape, only) {
        (Shape::Boolean, Some("true")) => Some(Value::Bool(true)),
        (Shape::Boolean, Some("false")) => Some(Value::Bool(false)),
        (Shape::Integer { .. } | Shape::Seconds { .. }, Some(text)) => number(text),
        _ => None,
    };
    typed.unwrap_or_else(|| words(given))
}

/// A number as the language writes it: without an exponent, with six decimals at most.
fn decimal(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => {
            let text = format!("{value:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => number.to_string(),
    }
}

/// Words as one string, or as a list of strings; nothing as null.
fn words(given: &[Vec<u8>]) -> Value {
    match given {
        [] => Value::Null,
        [only] => word(only),
        several => Value::Array(several.iter().map(|w| word(w)).collect()),
    }
}

/// A word as a string. One that is not UTF-8 as its octets in hexadecimal.
fn word(given: &[u8]) -> Value {
    // A command is written as in the file, with its quotes: no other word begins with one.
    let shown = given.strip_prefix(&[RAW]).unwrap_or(given);
    match core::str::from_utf8(shown) {
        Ok(text) => text.into(),
        Err(_) => {
            let digits: String = shown.iter().map(|b| format!("{b:02x}")).collect();
            json!({ "octets": digits })
        }
    }
}

/// The statements of an object, in the order of the table.
fn nodes(
    table: &'static Table,
    mut object: Map<String, Value>,
    path: &str,
) -> Result<Vec<Node>, Error> {
    let mut list = Vec::new();
    for keyword in table.keywords {
        let names = core::iter::once(keyword.name).chain(keyword.aliases.iter().map(|a| a.name));
        for name in names {
            if let Some(value) = object.remove(name) {
                let here = format!("{path}.{name}");
                statements(keyword, value, &here, &mut list)?;
            }
        }
    }
    if let Some(value) = object.remove(ENTRIES) {
        let here = format!("{path}.{ENTRIES}");
        let Value::Array(lines) = value else {
            return Err(form(&here, "a list is expected"));
        };
        for (i, line) in lines.into_iter().enumerate() {
            list.push(Node::line(read_words(line, &format!("{here}[{i}]"))?));
        }
    }
    match object.keys().next() {
        None => Ok(list),
        Some(key) => {
            let near = nearest(key, table.names())
                .map_or(String::new(), |name| format!(", did you mean '{name}'?"));
            Err(form(path, &format!("unknown keyword '{key}'{near}")))
        }
    }
}

fn statements(
    keyword: &'static Keyword,
    value: Value,
    path: &str,
    list: &mut Vec<Node>,
) -> Result<(), Error> {
    let shape = (keyword.shape)();
    match (value, &shape) {
        (value, Shape::Lines(_) | Shape::List(_)) => {
            let Value::Array(lines) = value else {
                return Err(form(path, "a list is expected"));
            };
            let lines = lines.into_iter().enumerate();
            let lines: Result<Vec<_>, Error> =
                lines.map(|(i, line)| read_words(line, &format!("{path}[{i}]"))).collect();
            list.push(Node::list(keyword, lines?));
        }
        (Value::Array(items), _) if several(keyword) => {
            for (i, item) in items.into_iter().enumerate() {
                list.push(statement(keyword, &shape, item, &format!("{path}[{i}]"))?);
            }
        }
        // A flag that is off is an absent statement.
        (Value::Bool(false), Shape::Flag) => {}
        (value, _) => list.push(statement(keyword, &shape, value, path)?),
    }
    Ok(())
}

fn statement(
    keyword: &'static Keyword,
    shape: &Shape,
    value: Value,
    path: &str,
) -> Result<Node, Error> {
    match (shape, value) {
        (Shape::Block(table, _), Value::Object(mut object)) => {
            let header = match object.remove(HEADER) {
                Some(header) => read_words(header, &format!("{path}.{HEADER}"))?,
                None => Vec::new(),
            };
            Ok(Node::block(keyword, header, nodes(table(), object, path)?))
        }
        (Shape::Block(..), _) => Err(form(path, "an object is expected")),
        (Shape::Flag, Value::Bool(true)) => Ok(Node::statement(keyword, Vec::new())),
        (_, value) => Ok(Node::statement(keyword, read_words(value, path)?)),
    }
}

fn read_words(value: Value, path: &str) -> Result<Vec<Vec<u8>>, Error> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(i, item)| read_word(item, &format!("{path}[{i}]"))).collect()
        }
        other => Ok(vec![read_word(other, path)?]),
    }
}

fn read_word(value: Value, path: &str) -> Result<Vec<u8>, Error> {
    let octets = match value {
        Value::String(text) => text.into_bytes(),
        Value::Number(number) => decimal(&number).into_bytes(),
        Value::Bool(truth) => truth.to_string().into_bytes(),
        Value::Object(object) => match object.get("octets").and_then(Value::as_str).and_then(hex) {
            Some(octets) if object.len() == 1 => octets,
            _ => return Err(form(path, "a word is expected")),
        },
        Value::Null | Value::Array(_) => return Err(form(path, "a word is expected")),
    };
    if octets.iter().any(|b| matches!(b, b'\n' | b'\r' | 0)) {
        return Err(form(path, "a word cannot hold the end of a line or a zero byte"));
    }
    let command = octets.len() > 1 && octets.starts_with(b"\"") && octets.ends_with(b"\"");
    let inner = octets.get(1..octets.len().saturating_sub(1)).unwrap_or_default();
    match command {
        true if !inner.contains(&b'"') => Ok([&[RAW], octets.as_slice()].concat()),
        _ if octets.contains(&b'"') => Err(form(path, "a word cannot hold a double quote")),
        _ => Ok(octets),
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|p| u8::from_str_radix(core::str::from_utf8(p).ok()?, 16).ok()).collect()
}

/// The JSON Schema of the form, from the tables.
#[must_use]
pub fn schema() -> String {
    let word = json!({ "anyOf": [
        { "type": "string" },
        { "type": "number" },
        { "type": "boolean" },
        { "type": "object", "properties": { "octets": { "type": "string" } },
          "required": ["octets"], "additionalProperties": false },
    ] });
    let words = json!({ "anyOf": [
        { "$ref": "#/$defs/word" },
        { "type": "array", "items": { "$ref": "#/$defs/word" } },
        { "type": "null" },
    ] });
    let mut definitions = Definitions::default();
    let root = definitions.reference(root_table());
    let mut all = Map::new();
    all.insert("word".into(), word);
    all.insert("words".into(), words);
    all.extend(definitions.list.into_iter().map(|(_, name, schema)| (name, schema)));
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A configuration of EverVIP, as 'evervip convert --to json' writes it",
        "type": "object",
        "properties": {
            "format": { "const": FORMAT },
            "configuration": { "type": "array", "items": root },
        },
        "required": ["format", "configuration"],
        "additionalProperties": false,
        "$defs": all,
    });
    serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
}

/// The schemas of blocks, each with a name of its own.
#[derive(Default)]
struct Definitions {
    list: Vec<(&'static Table, String, Value)>,
}

impl Definitions {
    fn reference(&mut self, table: &'static Table) -> Value {
        let known = self.list.iter().find(|(t, ..)| core::ptr::eq(*t, table));
        let name = match known {
            Some((_, name, _)) => name.clone(),
            None => self.define(table),
        };
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    fn define(&mut self, table: &'static Table) -> String {
        let plain = if table.name.is_empty() { "configuration" } else { table.name };
        let same = self.list.iter().filter(|(t, ..)| t.name == table.name).count();
        let name = if same == 0 { plain.to_owned() } else { format!("{plain}-{}", same + 1) };
        // Known from here on, for blocks that hold blocks.
        let place = self.list.len();
        self.list.push((table, name.clone(), Value::Null));
        let mut properties = Map::new();
        properties.insert(HEADER.into(), json!({ "$ref": "#/$defs/words" }));
        if table.keywords.is_empty() {
            let lines = json!({ "type": "array", "items": { "$ref": "#/$defs/words" } });
            properties.insert(ENTRIES.into(), lines);
        }
        for keyword in table.keywords {
            let one = match (keyword.shape)() {
                Shape::Flag | Shape::Boolean => json!({ "type": "boolean" }),
                Shape::Integer { min, max } => {
                    json!({ "type": "integer", "minimum": min, "maximum": max })
                }
                Shape::Seconds { min, max } => {
                    json!({ "type": "number", "minimum": min, "maximum": max })
                }
                Shape::Choice(words) => json!({ "enum": words }),
                Shape::Text(_) | Shape::Words(_) => json!({ "$ref": "#/$defs/words" }),
                Shape::Lines(_) | Shape::List(_) => {
                    json!({ "type": "array", "items": { "$ref": "#/$defs/words" } })
                }
                Shape::Block(table, _) => self.reference(table()),
            };
            // At the top each statement is an item of the list.
            let schema = if several(keyword) && !table.name.is_empty() {
                json!({ "type": "array", "items": one })
            } else {
                one
            };
            properties.insert(keyword.name.into(), schema);
        }
        let object = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if let Some(entry) = self.list.get_mut(place) {
            entry.2 = object;
        }
        name
    }
}
