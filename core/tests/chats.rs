//! Which text a chat becomes: the server's flags, templates by name, messages that are continued, media. What is expected
//! was printed by vLLM 0.32's own renderer.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use warmpath_core::definition::{ChatRules, ContentFormat};
use warmpath_core::model::Model;
use warmpath_core::pass::PassReason;
use warmpath_core::request::{Api, Prompt, parse};
use warmpath_core::template::{Fail, FailKind, Rendered, Templates};
use warmpath_core::tokenizer::{Runtime, compile};

/// A chat of these fields, by default of one message, rendered with `source`.
fn render(source: &str, rules: &ChatRules, fields: Value) -> Result<Rendered, Box<Fail>> {
    let mut body = json!({"messages": [{"role": "user", "content": "a"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let request = parse(Api::ChatCompletions, body.to_string().as_bytes()).unwrap();
    let Prompt::Chat(chat) = request.prompt else { panic!("no chat: {body}") };
    Templates::read(source, &BTreeMap::new(), rules).unwrap().render(&chat, None)
}

fn text(source: &str, rules: &ChatRules, fields: Value) -> String {
    render(source, rules, fields).unwrap().text
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn with_tool(fields: Value) -> Value {
    let mut body = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    body.as_object_mut().unwrap().extend(object(fields));
    body
}

const TOOL: &str =
    r#"[{"type": "function", "function": {"name": "f", "description": null, "parameters": null}}]"#;

#[test]
fn tools_and_variables_come_from_the_request_or_the_server() {
    let source = "{{ tools | tojson }}|{{ k }}|{{ enable_thinking }}";
    let plain = ChatRules::default();
    let excluding = ChatRules { exclude_tools_when_none: true, ..ChatRules::default() };
    assert_eq!(text(source, &plain, with_tool(json!({"tool_choice": "none"}))), format!("{TOOL}||"));
    assert_eq!(text(source, &excluding, with_tool(json!({"tool_choice": "none"}))), "null||");
    assert_eq!(text(source, &excluding, with_tool(json!({}))), format!("{TOOL}||"));

    let kwargs = object(json!({"k": 1, "tools": [{"x": 1}], "enable_thinking": true}));
    let server = ChatRules { template_kwargs: kwargs, ..ChatRules::default() };
    assert_eq!(text(source, &server, json!({})), r#"[{"x": 1}]|1|True"#);
    assert_eq!(text(source, &server, with_tool(json!({}))), format!("{TOOL}|1|True"));
    let request = json!({"chat_template_kwargs": {"k": 2, "tools": [{"y": 1}]}, "reasoning_effort": "none"});
    assert_eq!(text(source, &server, with_tool(request)), r#"[{"y": 1}]|2|False"#);
    for unset in [json!(null), json!("auto")] {
        let request = json!({"chat_template_kwargs": {"k": unset}});
        assert_eq!(text(source, &server, request), r#"[{"x": 1}]|1|True"#);
    }
}

#[test]
fn servers_without_a_parser_refuse_tools() {
    let rules = ChatRules { refuses_tool_calls: true, ..ChatRules::default() };
    let kind = |fields| render("x", &rules, with_tool(fields)).map_err(|fail| fail.kind).err();
    assert_eq!(kind(json!({})), Some(FailKind::Raised));
    assert_eq!(kind(json!({"tool_choice": "required"})), Some(FailKind::Raised));
    assert_eq!(kind(json!({"tool_choice": "none"})), None);
    assert_eq!(kind(json!({"tool_choice": null})), None);
}

#[test]
fn the_content_format_can_be_told() {
    let loops = "{% for m in messages %}{% for p in m.content %}{{ p }}{% endfor %}{% endfor %}";
    let prints = "{{ messages[0].content }}";
    let part = "{'type': 'text', 'text': 'a'}";
    for (format, looped, printed) in [
        (ContentFormat::Auto, part, "a"),
        (ContentFormat::String, "a", "a"),
        (ContentFormat::OpenAi, part, &format!("[{part}]")),
    ] {
        let rules = ChatRules { content_format: format, ..ChatRules::default() };
        assert_eq!(text(loops, &rules, json!({})), looped);
        assert_eq!(text(prints, &rules, json!({})), printed);
    }
}

#[test]
fn a_request_may_bring_a_template_where_it_is_trusted() {
    let own = json!({"chat_template": "own {{ messages[0].content }}"});
    let fail = render("theirs", &ChatRules::default(), own.clone()).unwrap_err();
    assert_eq!(
        (fail.kind, fail.message.as_str()),
        (FailKind::Raised, "Refused request with untrusted chat template.")
    );
    let rules = ChatRules { trust_request_chat_template: true, ..ChatRules::default() };
    assert_eq!(text("theirs", &rules, own), "own a");
}

#[test]
fn requests_with_tools_take_the_template_of_that_name() {
    let rules = ChatRules { exclude_tools_when_none: true, ..ChatRules::default() };
    let settings = object(json!({"chat_template": [
        {"name": "default", "template": "default {{ messages[0].content is string }}"},
        {"name": "tool_use", "template": "tools {% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"},
        {"name": "rag", "template": "{% broken"},
    ]}));
    let list = Templates::in_settings(&settings).unwrap().unwrap();
    // Each has a form of content of its own.
    assert_eq!(text(&list, &rules, json!({})), "default True");
    assert_eq!(text(&list, &rules, with_tool(json!({}))), "tools a");
    assert_eq!(text(&list, &rules, with_tool(json!({"tool_choice": "none"}))), "default True");
    assert_eq!(text(&list, &rules, json!({"chat_template_kwargs": {"tools": [{"x": 1}]}})), "tools a");
    let named = render(&list, &rules, json!({"chat_template": "rag"})).unwrap_err();
    assert_eq!(named.kind, FailKind::Unsupported);

    let only = r#"[{"name": "tool_use", "template": "tools"}]"#;
    assert_eq!(text(only, &rules, with_tool(json!({}))), "tools");
    assert_eq!(render(only, &rules, json!({})).unwrap_err().kind, FailKind::Raised);
    let one = r#"[{"name": "default", "template": "default"}]"#;
    assert_eq!(text(one, &rules, with_tool(json!({}))), "default");
    let broken = r#"[{"name": "tool_use", "template": "{% if"}]"#;
    let error = Templates::read(broken, &BTreeMap::new(), &rules).err().unwrap();
    assert!(error.starts_with("template \"tool_use\": syntax error"), "{error}");
}

#[test]
fn a_message_that_is_continued_ends_the_prompt() {
    let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}";
    let trims = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}";
    let parts =
        "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}";
    let continued = |source: &str, last: Value| {
        let fields = json!({"continue_final_message": true, "add_generation_prompt": false,
            "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": last}]});
        render(source, &ChatRules::default(), fields)
            .map(|rendered| rendered.text)
            .map_err(|fail| fail.message)
    };
    assert_eq!(continued(plain, json!("so it is")).unwrap(), "<user>a</user><assistant>so it is");
    assert_eq!(continued(plain, json!("so it is  ")).unwrap(), "<user>a</user><assistant>so it is  ");
    assert_eq!(continued(trims, json!("so it is  ")).unwrap(), "<user>a</user><assistant>so it is");
    let two = json!([{"type": "text", "text": "x"}, {"type": "text", "text": "so"}]);
    assert_eq!(continued(parts, two).unwrap(), "<user>[a]<assistant>[x][so");
    assert_eq!(
        continued("{% for m in messages %}{{ m.role }}{% endfor %}", json!("so it is")).unwrap_err(),
        "continue_final_message is set to \"content\" but this is not an accepted field in the chat_template"
    );
    let drops = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    let message = continued(drops, json!(" so it is")).unwrap_err();
    assert!(message.ends_with("Final message to continue: so it is\nRendered chat:\na"), "{message}");
    let message = continued(parts, json!([])).unwrap_err();
    assert!(message.contains("could not find any text to continue"), "{message}");

    let body = br#"{"messages": [{"role": "user", "content": "x"}], "continue_final_message": true}"#;
    assert_eq!(parse(Api::ChatCompletions, body).unwrap_err().reason, PassReason::InvalidField);
}

/// A chat with a picture in its second message.
fn with_picture() -> Value {
    json!({"messages": [
        {"role": "user", "content": "look here"},
        {"role": "user", "content": [{"type": "text", "text": "what is "},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "this"}]},
        {"role": "user", "content": "end"},
    ]})
}

#[test]
fn prompts_with_media_are_certain_up_to_the_first_one() {
    let certain = |source: &str| {
        let Rendered { mut text, certain } = render(source, &ChatRules::default(), with_picture()).unwrap();
        text.truncate(certain);
        text
    };
    let loops = "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% else %}<image>{% endif %}{% endfor %}{% endfor %}";
    // White space before a picture may become a part of what stands for it.
    assert_eq!(certain(loops), "<user>look here<user>what is");
    // Where vLLM writes pictures into the text, it writes them before the text.
    let prints = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
    assert_eq!(certain(prints), "<user>look here<user>");
    // What comes before it counts, whatever is printed for it.
    let counts = "{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}{{ messages[1].content | length }}{{ messages[1].content[1].type }}";
    assert_eq!(certain(counts), "3");
}

#[test]
fn keys_of_a_prompt_with_media_are_those_of_the_text_before_it() {
    let story = "the quick brown fox jumps over the lazy dog ".repeat(8).trim_end().to_owned();
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let definition = common::small_model().definition().clone();
    let asset = compile(include_bytes!("data/tokenizer.json")).unwrap();
    let model = Model::load(definition, Box::new(Runtime::load(asset).unwrap()), Some(source)).unwrap();
    let keys = |last: Value| {
        let body =
            json!({"messages": [{"role": "user", "content": story}, {"role": "user", "content": last}]});
        let request = parse(Api::ChatCompletions, body.to_string().as_bytes()).unwrap();
        model.keys(&request, None)
    };
    let picture = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    let (text, media) = (keys(json!("and then it sleeps")).unwrap(), keys(picture.clone()).unwrap());
    assert!(text.complete && !media.complete);
    assert!(text.keys.starts_with(&media.keys), "{media:?} is no start of {text:?}");
    assert!(media.keys.len() > 2, "{media:?} {text:?}");
    let first = json!({"messages": [{"role": "user", "content": picture}]});
    let request = parse(Api::ChatCompletions, first.to_string().as_bytes()).unwrap();
    assert_eq!(model.keys(&request, None).unwrap_err().reason, PassReason::UnsupportedContent);
}
