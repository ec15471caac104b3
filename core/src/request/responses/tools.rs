//! Tools of `/v1/responses`, and which of them a request may choose.

use serde_json::{Map, Value, json};

use super::super::fields::Fields;
use super::super::invalid;
use crate::pass::Pass;

/// Types of tools that the model is not shown (`openai/types/responses/tool.py`).
const RUN_BY_OPENAI: [&str; 15] = [
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
];

/// Tools in the form that chat completions have: functions, those of namespaces, and custom tools as functions of one
/// text. Tools that OpenAI runs are dropped (`get_function_tools` in `vllm/tool_parsers/utils.py`).
pub(super) fn read(tools: Option<&Value>) -> Result<Option<Vec<Value>>, Pass> {
    let tools = match tools {
        None => return Ok(None),
        Some(Value::Array(tools)) if tools.is_empty() => return Ok(None),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(invalid("tools", "a list")),
    };
    let mut read = Vec::with_capacity(tools.len());
    for (at, tool) in tools.iter().enumerate() {
        let path = format!("tools[{at}]");
        match tool.get("type").and_then(Value::as_str) {
            Some("function") => read.push(function(&path, None, tool, tool.get("parameters"))?),
            Some("custom") if has_grammar(tool) => {
                return Err(invalid(&format!("{path}.format"), "a free text's"));
            }
            Some("custom") => read.push(function(&path, None, tool, Some(&custom_parameters()))?),
            Some("namespace") => {
                let (Some(name), Some(Value::Array(tools))) =
                    (tool.get("name").and_then(Value::as_str), tool.get("tools"))
                else {
                    return Err(invalid(&path, "a namespace with a name and a list of tools"));
                };
                let functions =
                    tools.iter().filter(|tool| tool.get("type").is_some_and(|kind| kind == "function"));
                for tool in functions {
                    read.push(function(&path, Some(name), tool, tool.get("parameters"))?);
                }
            }
            Some(kind) if RUN_BY_OPENAI.contains(&kind) => {}
            _ => return Err(invalid(&format!("{path}.type"), "a type of tool that is known")),
        }
    }
    Ok(Some(read))
}

fn function(
    path: &str,
    space: Option<&str>,
    tool: &Value,
    parameters: Option<&Value>,
) -> Result<Value, Pass> {
    let Some(name) = tool.get("name").and_then(Value::as_str) else {
        return Err(invalid(&format!("{path}.name"), "a string"));
    };
    let mut function = Map::new();
    function.insert("name".to_owned(), in_namespace(space, name).into());
    function.insert("description".to_owned(), tool.get("description").cloned().unwrap_or_default());
    function.insert("parameters".to_owned(), parameters.cloned().unwrap_or_default());
    // A custom tool loses them.
    if tool.get("type").is_some_and(|kind| kind == "function") {
        for key in ["strict", "defer_loading"] {
            let value = tool.get(key).filter(|value| !value.is_null()).cloned();
            function.extend(value.map(|value| (key.to_owned(), value)));
        }
    }
    Ok(json!({"type": "function", "function": function}))
}

/// Schema of the function that a custom tool is shown as (`custom_tool_parameters`).
fn custom_parameters() -> Value {
    json!({
        "type": "object",
        "properties": {"input": {"type": "string", "description": "The freeform text payload for this tool."}},
        "required": ["input"],
        "additionalProperties": false,
    })
}

/// A function's name as the model sees it.
pub(super) fn in_namespace(space: Option<&str>, name: &str) -> String {
    match space {
        Some(space) => format!("{space}__{name}"),
        None => name.to_owned(),
    }
}

fn has_grammar(tool: &Value) -> bool {
    tool.get("format").and_then(|format| format.get("type")).is_some_and(|kind| kind == "grammar")
}

/// vLLM's check of `tool_choice` (`check_tool_usage`). Neither which tool is named nor `required` reaches the prompt.
pub(super) fn check_choice(fields: &Fields) -> Result<(), Pass> {
    let tools = fields.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let fits = match fields.or_null("tool_choice") {
        None => true,
        Some(Value::String(choice)) if matches!(choice.as_str(), "auto" | "none") => true,
        Some(Value::String(choice)) => choice == "required" && !tools.is_empty(),
        Some(Value::Object(choice)) => {
            let kind = choice.get("type").and_then(Value::as_str);
            let is_named = matches!(kind, Some("function" | "custom"));
            let name = choice.get("name").and_then(Value::as_str);
            !is_named && kind.is_some() || name.is_some_and(|name| names(tools).any(|other| other == name))
        }
        Some(_) => false,
    };
    if fits { Ok(()) } else { Err(invalid("tool_choice", "one that these tools allow")) }
}

/// Names by which tools can be chosen; those in a namespace by both of theirs.
fn names(tools: &[Value]) -> impl Iterator<Item = String> {
    fn name(tool: &Value) -> Option<&str> {
        tool.get("name").and_then(Value::as_str)
    }
    tools.iter().flat_map(|tool| {
        let inner = tool.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let inner = inner
            .iter()
            .filter_map(name)
            .flat_map(move |local| [in_namespace(name(tool), local), local.to_owned()]);
        let is_namespace = tool.get("type").is_some_and(|kind| kind == "namespace");
        name(tool).filter(|_| !is_namespace).map(str::to_owned).into_iter().chain(inner)
    })
}
