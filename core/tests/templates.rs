//! The template engine against what Python's jinja2 does, and the form in which a template gets content.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::Chat;
use warmpath_core::template::Template;

fn render_chat(source: &str, messages: Value) -> Result<String, Pass> {
    let tokens = BTreeMap::from([
        ("bos_token".to_owned(), "<s>".to_owned()),
        // The arguments of the call win.
        ("add_generation_prompt".to_owned(), "overridden".to_owned()),
    ]);
    let Value::Array(messages) = messages else { panic!("no list") };
    let chat = Chat { messages, add_generation_prompt: true, add_special_tokens: false };
    Template::new(source, &tokens).unwrap().render(&chat)
}

fn render(source: &str) -> Result<String, Pass> {
    render_chat(source, json!([{"role": "user", "content": "\u{1c}\u{a0} Hé <b>\n"}]))
}

#[track_caller]
fn fails(outcome: Result<String, Pass>) {
    assert_eq!(outcome.unwrap_err().reason, PassReason::TemplateError);
}

/// Expected values were printed by jinja2 3.1.6 in the environment that transformers makes.
#[test]
fn values_are_spelled_as_in_python() {
    for (source, expected) in [
        ("{{ none }} {{ true }} {{ false }} {{ 7 }} [{{ nothing }}]", "None True False 7 []"),
        ("{{ tools }} {{ documents is none }} {{ tools is defined }}", "None True True"),
        ("{{ add_generation_prompt }} {{ bos_token }}", "True <s>"),
        ("[{{ messages[0].content.strip() }}]", "[Hé <b>]"),
        ("[{{ messages[0].content | trim }}]", "[Hé <b>]"),
        ("[{{ messages[0].content.lstrip() }}]", "[Hé <b>\n]"),
        ("[{{ 'xxaxx'.strip('x') }}{{ 'xxaxx'.lstrip('x') }}{{ 'xxaxx'.rstrip('x') }}]", "[aaxxxxa]"),
        ("{{ messages | tojson }}", "[{\"role\": \"user\", \"content\": \"\\u001c\u{a0} Hé <b>\\n\"}]"),
        ("{{ {'a': [1, 2.5, none, true], 'b': {}} | tojson }}", "{\"a\": [1, 2.5, null, true], \"b\": {}}"),
        ("{{ messages[0].role | string }}{{ messages[0].get('name', 'x') }}", "userx"),
        ("a\n{% if true %}\nb\n{% endif %}\nc\n", "a\nb\nc"),
        ("  {% set x = 1 %}\n  {{ x }}", "  1"),
        ("{% for m in messages %}{{ loop.index0 }}{% break %}{% endfor %}", "0"),
        ("{{ 'a b'.split()[1] }} {{ 'a,b'.split(',')[-1] }} {{ 'aé' | upper }}", "b b AÉ"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn what_python_would_print_otherwise_is_refused() {
    for source in [
        "{{ messages }}",
        "{{ messages[0] }}",
        "{{ 1.5 }}",
        "{{ [1] | string }}",
        "{{ 1e30 | tojson }}",
        "{{ nothing | tojson }}",
        "{{ messages | tojson(indent=2) }}",
        "{{ messages[0].content.title() }}",
        "{{ messages[0].content | capitalize }}",
        "{{ messages[0].content.split() }}",
        "{{ messages[0].content.isalpha() }}",
        // Errors in Python as well.
        "{{ nothing.attribute }}",
        "{{ 'a' + none }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        // There is no clock.
        "{{ strftime_now('%d %b %Y') }}",
    ] {
        fails(render(source));
    }
    assert_eq!(render("{{ strftime_now is defined }}").unwrap(), "True");
}

#[test]
fn errors_say_where_and_nothing_of_the_text() {
    let pass = render("\n\n{{ raise_exception(messages[0].content) }}").unwrap_err();
    assert_eq!(pass.to_string(), "template_error: invalid operation in line 3");
}

#[test]
fn a_template_that_does_not_parse_is_not_loaded() {
    let error = Template::new("{% for %}", &BTreeMap::new()).err().unwrap();
    assert!(error.contains("syntax error") && error.contains("chat_template:1"), "{error}");
}

/// The engine panics at `''[::-1]`; in a filter that would end the VM.
#[test]
fn slices_that_may_go_backwards_over_nothing_are_not_loaded() {
    for source in [
        "{{ messages[0].content[::-1] }}",
        "{% for m in messages[1:][::-1] %}{% endfor %}",
        "{{ messages[3:1:-1] | length }}",
        "{% set step = -1 %}{{ bos_token[::step] }}",
        "{% set messages = [] %}{{ messages[::-1] | length }}",
        "{% macro m(messages) %}{{ messages[::-1] | length }}{% endmacro %}{{ m([]) }}",
        "{% if x[::-1] %}{% endif %}",
        "{% macro m(a=x[::-1]) %}{% endmacro %}",
    ] {
        let error = Template::new(source, &BTreeMap::new()).err().unwrap_or_else(|| panic!("{source}"));
        assert!(error.contains("line 1: a slice with a negative step"), "{error}");
    }
    let messages = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
    let source = "{% for m in messages[::-1] %}{{ m.content }}{% endfor %}{{ messages[::2] | length }}";
    assert_eq!(render_chat(source, messages).unwrap(), "ba1");
}

#[test]
fn a_template_that_runs_on_is_stopped() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
    let pass = render(source).unwrap_err();
    assert_eq!(pass.reason, PassReason::TemplateError);
    assert!(pass.detail.contains("fuel"), "{pass}");
}

/// What `source` sees of three messages: whether content is a string, and how long it is.
fn forms(source: &str) -> String {
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null},
        {"role": "tool", "content": [{"type": "text", "text": "pong"}, {"type": "text", "text": ""}]},
        {"role": "user", "content": "text"},
    ]);
    let show = "{% for each in messages %}{{ each['con' + 'tent'] | tojson }}\n{% endfor %}";
    let text = render_chat(&format!("{show}@{source}"), messages).unwrap();
    text.split('@').next().unwrap().to_owned()
}

const STRINGS: &str = "\"a\\nb\"\n\"\"\n\"pong\"\n\"text\"\n";
const PARTS: &str = concat!(
    "[{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"text\", \"text\": \"\"}, {\"type\": \"text\", \"text\": \"b\"}]\n",
    "[]\n\"pong\\n\"\n[{\"type\": \"text\", \"text\": \"text\"}]\n",
);

#[test]
fn templates_that_loop_over_content_get_parts() {
    for source in [
        "{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}",
        "{% for m in messages %}{% for p in m['content'] %}{% endfor %}{% endfor %}",
        "{% set rest = messages[1:] %}{% set more = rest | list %}{% for m in more %}{% for p in m.content | list %}{% endfor %}{% endfor %}",
        "{% for m in messages %}{% set content = m.content %}{% for p in content %}{% endfor %}{% endfor %}",
        "{% macro show(c) %}{% if c is not string %}{% for p in c %}{% endfor %}{% endif %}{% endmacro %}{% for m in messages %}{{ show(m.content) }}{% endfor %}",
        "{% macro show(c) %}{% if c is not string %}{% for p in c %}{% endfor %}{% endif %}{% endmacro %}{% for m in messages %}{{ show(c=m.content) }}{% endfor %}",
    ] {
        assert_eq!(forms(source), PARTS, "{source}");
    }
}

#[test]
fn all_other_templates_get_strings() {
    for source in [
        "",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% for p in m.content.split('a') %}{% endfor %}{% endfor %}",
        "{% for m in messages %}{% for p in m.tool_calls %}{% endfor %}{% endfor %}",
        // A parameter that no message's content is handed to.
        "{% macro show(content) %}{% for p in content %}{% endfor %}{% endmacro %}{{ show('x') }}",
        // vLLM gives up where a loop has two targets.
        "{% for m in messages if false %}{% for a, b in m.content %}{% endfor %}{% endfor %}",
    ] {
        assert_eq!(forms(source), STRINGS, "{source}");
    }
}
