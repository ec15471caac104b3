//! The template engine against what Python's jinja2 does, and the form in which a template gets content.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warmpath_core::definition::ChatRules;
use warmpath_core::pass::PassReason;
use warmpath_core::request::{self, Api, Chat, Prompt};
use warmpath_core::template::{Fail, FailKind, LocalTime, Rendered, Template};

/// The clock of the recorded renderings: 2025-07-04 13:05:09.
const CLOCK: i64 = 1_751_634_309;

fn chat(body: &Value) -> Chat {
    let request = request::parse(Api::ChatCompletions, body.to_string().as_bytes()).unwrap();
    let Prompt::Chat(chat) = request.prompt else { panic!("no chat: {body}") };
    *chat
}

fn render_with(source: &str, body: &Value, settings: &ChatRules) -> Result<Rendered, Box<Fail>> {
    let tokens = BTreeMap::from([
        ("bos_token".to_owned(), "<s>".to_owned()),
        // The arguments of the call win.
        ("add_generation_prompt".to_owned(), "overridden".to_owned()),
    ]);
    Template::new(source, &tokens, settings).unwrap().render(&chat(body), Some(LocalTime::at(CLOCK, 0)))
}

fn render_body(source: &str, body: &Value) -> Result<String, Box<Fail>> {
    render_with(source, body, &ChatRules::default()).map(|rendered| rendered.text)
}

fn render_chat(source: &str, messages: Value) -> Result<String, Box<Fail>> {
    render_body(source, &json!({"messages": messages}))
}

fn render(source: &str) -> Result<String, Box<Fail>> {
    render_chat(source, json!([{"role": "user", "content": "\u{1c}\u{a0} Hé <b>\n"}]))
}

fn error(source: &str) -> String {
    Template::new(source, &BTreeMap::new(), &ChatRules::default()).err().unwrap_or_else(|| panic!("{source}"))
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
        (
            "{% for k, v in [{'a': 'y', 'n': 1}, {'a': 'X', 'n': 2}, {'a': 'Y', 'n': 3}] | groupby('a') %}{{ k }}={{ v | map(attribute='n') | join(',') }};{% endfor %}",
            "X=2;y=1,3;",
        ),
        // Texts marked as HTML escape what they are joined with by `+`, and nothing else.
        ("{{ ('<' | escape) + '<' }} {{ '<' + ('>' | safe) }} {{ ('<' | safe) ~ '<' }}", "&lt;&lt; &lt;> <<"),
        (
            "{{ [('a' | safe), '<' | e | safe | e] }} {{ ('<' | e).strip('&')[0] + '\"' }}",
            "[Markup('a'), Markup('&lt;')] l&#34;",
        ),
        (
            "{{ 'x' | safe is string }} {{ ('x' | safe) == 'x' }} {{ ('<x' | safe | replace('x', '>')) + '&' }}",
            "True True <>&",
        ),
        ("{{ {'a': messages[0].get.type}['a'] is defined }}", "False"),
        ("{{ 'a b'.split()[1] }} {{ 'a,b'.split(',')[-1] }} {{ 'aé' | upper }}", "b b AÉ"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_not_known_exactly_is_refused() {
    for source in [
        // Addresses, random text, orders that are Python's own.
        "{{ messages[0].content.strip }}",
        "{{ messages | map(attribute='role') }}",
        "{{ lipsum() }}",
        "{{ [1, 2] | random }}",
        // Unicode tables that are not here.
        "{{ 'é'.isalpha() }}",
        "{{ 'ǆ' | capitalize }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ messages.__class__ }}",
    ] {
        let fail = render(source).unwrap_err();
        assert_eq!(
            (fail.kind, fail.pass().reason),
            (FailKind::Unsupported, PassReason::TemplateUnsupported),
            "{fail}"
        );
    }
}

#[test]
fn a_rendering_without_a_clock_cannot_tell_the_time() {
    let template =
        Template::new("{{ strftime_now('%H') }}", &BTreeMap::new(), &ChatRules::default()).unwrap();
    let chat = chat(&json!({"messages": [{"role": "user", "content": "x"}]}));
    assert_eq!(template.render(&chat, None).unwrap_err().kind, FailKind::Unsupported);
    let at = |offset| template.render(&chat, Some(LocalTime::at(CLOCK, offset))).unwrap().text;
    assert_eq!((at(0).as_str(), at(-5 * 3600).as_str()), ("13", "08"));
}

#[test]
fn passes_say_where_and_nothing_of_the_text() {
    let fail = render("\n\n{{ raise_exception(messages[0].content) }}").unwrap_err();
    assert!(fail.message.contains("Hé"));
    assert_eq!(fail.pass().to_string(), "template_error: an exception in line 3");
}

#[test]
fn a_template_that_does_not_parse_is_not_loaded() {
    assert!(error("{% for %}").contains("syntax error: line 1"), "{}", error("{% for %}"));
    for source in [
        "{% include 'x' %}",
        "{% block a %}{% endblock %}",
        "{% do x.append(1) %}",
        "{% break %}",
        "{{ self.x }}",
    ] {
        error(source);
    }
    error(&"{% if x %}".repeat(200));
    error(&format!("{{{{ {}1{} }}}}", "(".repeat(200), ")".repeat(200)));
    error(&format!("{{{{ 1{} }}}}", " + 1".repeat(1000)));
}

#[test]
fn bombs_are_stopped() {
    for source in [
        "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "{{ 'x' * 100000000 }}",
        "{{ [0] * 100000000 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=['x']) %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set x = 'ab' * 100000 %}{{ x | replace('', x) }}",
        "{% set x = 'ab' * 100000 %}{{ x.join(range(1000) | map('string')) }}",
        "{% for a in range(1000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ {'a': 1} | tojson(indent=1000000000) }}",
    ] {
        let fail = render(source).unwrap_err();
        let bounded = [FailKind::Fuel, FailKind::Output, FailKind::Unsupported];
        assert!(bounded.contains(&fail.kind), "{source}: {fail}");
    }
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
