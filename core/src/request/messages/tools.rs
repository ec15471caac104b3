//! Tools of `/v1/messages`, and the blocks of system messages that add and remove some (`_resolve_tools`).

use serde_json::{Map, Value, json};

use super::super::{invalid, object};
use crate::pass::Pass;

/// A block that adds a tool or removes one.
pub(super) struct Change {
    pub(super) path: String,
    pub(super) removal: bool,
    /// Its `tool`: a `tool_reference`, or for an addition a `tool_definition`.
    pub(super) tool: Option<Value>,
}

/// Tools in the form that chat completions have, as they are after all changes; perhaps none in a list.
pub(super) fn read(tools: Option<Value>, changes: Vec<Change>) -> Result<Option<Vec<Value>>, Pass> {
    let mut read = match tools {
        None if changes.is_empty() => return Ok(None),
        None => Vec::new(),
        Some(Value::Array(tools)) => {
            let read = |(at, tool): (usize, Value)| Tool::read(&format!("tools[{at}]"), tool);
            tools.into_iter().enumerate().map(read).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(invalid("tools", "a list")),
    };
    if !changes.is_empty() {
        read = one_of_each_name(read);
    }
    for change in changes {
        change.apply(&mut read)?;
    }
    Ok(Some(read.into_iter().filter(|tool| !tool.removed).map(Tool::function).collect()))
}

struct Tool {
    name: String,
    function: Map<String, Value>,
    removed: bool,
}

impl Tool {
    fn read(path: &str, tool: Value) -> Result<Self, Pass> {
        let mut tool = object(path, tool)?;
        let Some(Value::String(name)) = tool.remove("name") else {
            return Err(invalid(&format!("{path}.name"), "a string"));
        };
        // Tools that Anthropic runs have no schema: vLLM refuses them.
        let Some(Value::Object(mut schema)) = tool.remove("input_schema") else {
            return Err(invalid(&format!("{path}.input_schema"), "an object"));
        };
        schema.entry("type").or_insert_with(|| "object".into());
        let mut function = Map::new();
        function.insert("name".to_owned(), name.as_str().into());
        function.insert("description".to_owned(), tool.remove("description").unwrap_or_default());
        function.insert("parameters".to_owned(), Value::Object(schema));
        for key in ["strict", "defer_loading"] {
            let value = tool.remove(key).filter(|value| !value.is_null());
            function.extend(value.map(|value| (key.to_owned(), value)));
        }
        Ok(Self { name, function, removed: false })
    }

    fn function(self) -> Value {
        json!({"type": "function", "function": self.function})
    }
}

/// As in a Python dict: the last tool of a name, at the place of the first.
fn one_of_each_name(tools: Vec<Tool>) -> Vec<Tool> {
    let mut kept = Vec::with_capacity(tools.len());
    for tool in tools {
        put(&mut kept, tool);
    }
    kept
}

fn put(tools: &mut Vec<Tool>, tool: Tool) {
    match tools.iter_mut().find(|other| other.name == tool.name) {
        Some(other) => *other = tool,
        None => tools.push(tool),
    }
}

impl Change {
    fn apply(self, tools: &mut Vec<Tool>) -> Result<(), Pass> {
        let path = format!("{}.tool", self.path);
        let mut tool = object(&path, self.tool.unwrap_or_default())?;
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
        match (kind, self.removal) {
            ("tool_definition", false) => {
                let definition = tool.remove("definition").unwrap_or_default();
                put(tools, Tool::read(&format!("{path}.definition"), definition)?);
                Ok(())
            }
            ("tool_reference", removal) => {
                let name = tool.get("name").and_then(Value::as_str);
                let declared = tools.iter_mut().find(|tool| Some(tool.name.as_str()) == name);
                let declared =
                    declared.ok_or_else(|| invalid(&format!("{path}.name"), "a declared tool's"))?;
                declared.removed = removal;
                if !removal {
                    declared.function.remove("defer_loading");
                }
                Ok(())
            }
            _ => Err(invalid(&format!("{path}.type"), "one that may stand here")),
        }
    }
}
