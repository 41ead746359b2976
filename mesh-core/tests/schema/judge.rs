//! As much of JSON Schema as the schemas use, read strictly: a keyword it does not know is a failure.
// spec: json-schema draft 2020-12

use serde_json::{Map, Value};

/// Returns whether `value` is valid.
pub(crate) fn accepts(schema: &Value, value: &Value) -> bool {
    why_not(schema, value).is_none()
}

/// Returns why `value` is not valid under `schema`, which is its own root.
pub(crate) fn why_not(schema: &Value, value: &Value) -> Option<String> {
    Judge { root: schema }.judge(schema, value).err()
}

struct Judge<'s> {
    root: &'s Value,
}

type Verdict = Result<(), String>;

impl Judge<'_> {
    fn judge(&self, schema: &Value, value: &Value) -> Verdict {
        let keywords = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return Err(format!("nothing may stand here, not {value}")),
            Value::Object(keywords) => keywords,
            other => panic!("{other} is no schema"),
        };
        keywords.iter().try_for_each(|(keyword, says)| self.keyword(keywords, keyword, says, value))
    }

    fn keyword(&self, all: &Map<String, Value>, keyword: &str, says: &Value, value: &Value) -> Verdict {
        let fits = match keyword {
            "type" => list(says).iter().any(|name| is(name.as_str().unwrap(), value)),
            "const" => says == value,
            "enum" => list(says).contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= says.as_f64().unwrap()),
            "minLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 >= says.as_u64().unwrap())
            }
            "pattern" => {
                let pattern = regex::Regex::new(says.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "required" => value.as_object().is_none_or(|fields| {
                list(says).iter().all(|name| fields.contains_key(name.as_str().unwrap()))
            }),
            "anyOf" => list(says).iter().any(|schema| self.judge(schema, value).is_ok()),
            "allOf" => return list(says).iter().try_for_each(|schema| self.judge(schema, value)),
            "if" if self.judge(says, value).is_ok() => return self.judge(&all["then"], value),
            "properties" => return self.fields(value, |name| says.get(name)),
            "additionalProperties" => {
                let listed = all.get("properties").and_then(Value::as_object);
                let is_listed = |name: &str| listed.is_some_and(|listed| listed.contains_key(name));
                return self.fields(value, |name| (!is_listed(name)).then_some(says));
            }
            "items" => {
                return value.as_array().into_iter().flatten().try_for_each(|item| self.judge(says, item));
            }
            "$ref" if says == "#" => return self.judge(self.root, value),
            "if" | "then" | "$schema" | "$id" | "title" | "description" | "deprecated"
            | "contentEncoding" | "contentMediaType" | "contentSchema" => true,
            _ => panic!("{keyword} is not known here"),
        };
        if fits { Ok(()) } else { Err(format!("{keyword}: {says}, not {value}")) }
    }

    fn fields<'a>(&self, value: &Value, schema: impl Fn(&str) -> Option<&'a Value>) -> Verdict {
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some(schema) = schema(name) {
                self.judge(schema, value).map_err(|why| format!("{name}: {why}"))?;
            }
        }
        Ok(())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}
