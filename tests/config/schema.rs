//! A check of JSON against a JSON Schema, for the part of the language that our schemas use.

/// The violations of a JSON Schema, for the part of the language that our schemas use.
pub fn misfits(
    value: &serde_json::Value,
    schema: &serde_json::Value,
    whole: &serde_json::Value,
    at: &str,
) -> Vec<String> {
    use serde_json::Value;
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let target =
            whole.pointer(name.trim_start_matches('#')).expect("a reference leads somewhere");
        return misfits(value, target, whole, at);
    }
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().expect("a schema is an object") {
        let fits = match word.as_str() {
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                "null" => value.is_null(),
                "boolean" => value.is_boolean(),
                other => panic!("type {other}"),
            },
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64() >= rule.as_f64(),
            "maximum" => value.as_f64() <= rule.as_f64(),
            "anyOf" => {
                let ways = rule.as_array().unwrap();
                ways.iter().any(|way| misfits(value, way, whole, at).is_empty())
            }
            "required" => {
                rule.as_array().unwrap().iter().all(|k| value.get(k.as_str().unwrap()).is_some())
            }
            "additionalProperties" => {
                assert_eq!(*rule, Value::Bool(false));
                let known = schema["properties"].as_object().unwrap();
                value.as_object().is_none_or(|o| o.keys().all(|k| known.contains_key(k)))
            }
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(child) = value.get(key) {
                        found.extend(misfits(child, rule, whole, &format!("{at}/{key}")));
                    }
                }
                true
            }
            "items" => {
                for (i, child) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(misfits(child, rule, whole, &format!("{at}/{i}")));
                }
                true
            }
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            other => panic!("the test does not know '{other}' of the schema"),
        };
        if !fits {
            found.push(format!("{at}: {word} {rule} is not met by {value}"));
        }
    }
    found
}
