//! Catalog and assets: fetch, check, load, swap.

use std::time::Duration;

use warmpath_core::definition::{AssetRef, Catalog, Mode, ModelDefinition, Overflow, Tokenize};
use warmpath_proto::v1::ask_request::Ask;

use super::steering::{BODY, HEADER, send};
use crate::catalog::Serving;
use crate::mock::{
    MockHost, ROOT, Request, TEMPLATE, TOKENIZER, answer_get, catalog, definition, root_with, serve,
    tick_until_get,
};
use crate::root::{REPORT_EVERY, Root};
use crate::stream::Flow;

fn configured() -> (MockHost, Root) {
    let host = MockHost::new(HEADER);
    let mut root = Root::new(ROOT);
    root.on_vm_start(&host);
    root.on_configure(&host);
    (host, root)
}

/// Whether a request for the default model is steered now.
fn steers(host: &MockHost, root: &Root) -> bool {
    let mut stream = Request::new(root.vm());
    let flow = send(host, &mut stream, BODY);
    stream.on_done(host);
    flow == Flow::Hold
}

fn tokenizer(definition: &ModelDefinition) -> &AssetRef {
    let Tokenize::Inline(asset) = &definition.tokenize else { panic!("not inline") };
    asset
}

fn json(catalog: &Catalog) -> Vec<u8> {
    serde_json::to_vec(catalog).unwrap()
}

#[test]
fn a_model_is_fetched_checked_and_loaded() {
    let (host, mut root) = configured();
    assert_eq!(host.tick.get(), Some(Duration::from_millis(25)));
    assert_eq!(tick_until_get(&mut root, &host), "/v1/catalog");
    let definition = definition("demo", "1");
    answer_get(&mut root, &host, "200", &json(&catalog(Mode::Steer, vec![definition.clone()])));
    let gets = |index: usize| host.gets.borrow()[index].clone();
    assert_eq!(gets(1).2, definition.chat_template.as_ref().unwrap().path());
    assert_eq!(gets(1).1, "warmpath_assets");
    answer_get(&mut root, &host, "200", TEMPLATE);
    assert_eq!(gets(2).2, tokenizer(&definition).path());
    assert!(!steers(&host, &root));
    answer_get(&mut root, &host, "200", TOKENIZER);
    assert_eq!(host.gets.borrow().len(), 3);
    assert_eq!(host.metric("warmpath.asset_loads"), 1);
    assert!(steers(&host, &root));
}

#[test]
fn an_unchanged_catalog_fetches_nothing_more() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    serve(&mut root, &host, &catalog(Mode::Steer, vec![definition("demo", "demo")]));
    assert_eq!(host.metric("warmpath.asset_loads"), 1);
    // The mode alone changes without a load.
    serve(&mut root, &host, &catalog(Mode::Off, vec![definition("demo", "demo")]));
    assert_eq!(host.metric("warmpath.asset_loads"), 1);
    assert!(!steers(&host, &root));
    assert_eq!(host.passes("mode_off"), 1);
}

#[test]
fn a_changed_model_serves_until_its_successor_has_come_whole() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo", "other"]);
    let serving = |root: &Root, name: &str| match root.vm().models.borrow().serving(Some(name)) {
        Ok(Serving::Here(model)) => Ok(model.definition().digest.clone()),
        Ok(Serving::Sidecar(_)) => panic!("{name} is served by the sidecar"),
        Err(reason) => Err(reason.label()),
    };
    let changed = catalog(Mode::Steer, vec![definition("demo", "new"), definition("other", "other")]);
    tick_until_get(&mut root, &host);
    answer_get(&mut root, &host, "200", &json(&changed));
    answer_get(&mut root, &host, "200", TEMPLATE);
    assert_eq!(serving(&root, "demo"), Ok("demo".to_owned()), "the old one");
    assert_eq!(serving(&root, "other"), Ok("other".to_owned()));
    let mut corrupt = TOKENIZER.to_vec();
    corrupt[20] ^= 1;
    answer_get(&mut root, &host, "200", &corrupt);
    assert_eq!((host.metric("warmpath.asset_errors"), host.metric("warmpath.asset_loads")), (1, 2));
    assert_eq!(serving(&root, "demo"), Ok("demo".to_owned()), "still the old one");
    assert!(steers(&host, &root));
    serve(&mut root, &host, &changed);
    assert_eq!(serving(&root, "demo"), Ok("new".to_owned()));
    assert!(steers(&host, &root));
    assert_eq!(host.metric("warmpath.asset_loads"), 3);
}

#[test]
fn a_model_of_the_sidecar_needs_no_assets_and_a_refused_one_passes() {
    let (host, mut root) = configured();
    let mut remote = definition("demo", "1");
    remote.tokenize = Tokenize::Sidecar;
    let mut refused = definition("other", "2");
    refused.tokenize = Tokenize::Refused("no exact tokenizer".to_owned());
    serve(&mut root, &host, &catalog(Mode::Steer, vec![remote, refused]));
    assert_eq!(host.metric("warmpath.asset_loads"), 0);
    assert!(steers(&host, &root));
    assert!(matches!(host.last_ask().ask, Some(Ask::Prompt(_))));
    assert_eq!(host.metric("warmpath.prompts_sent"), 1);
    let vm = root.vm();
    let models = vm.models.borrow();
    assert_eq!(models.serving(Some("other")).map(|_| ()).unwrap_err().label(), "model_refused");
    assert_eq!(models.serving(Some("nobody")).map(|_| ()).unwrap_err().label(), "unknown_model");
}

#[test]
fn an_overlong_prompt_goes_to_the_sidecar_where_the_model_says_so() {
    let mut cut = definition("demo", "1");
    cut.limits.bytes_max = 8;
    for overflow in [Overflow::Off, Overflow::Sidecar] {
        let (host, mut root) = configured();
        cut.overflow = overflow;
        serve(&mut root, &host, &catalog(Mode::Steer, vec![cut.clone()]));
        assert!(steers(&host, &root));
        let sent = overflow == Overflow::Sidecar;
        assert_eq!(matches!(host.last_ask().ask, Some(Ask::Prompt(_))), sent);
        assert_eq!(host.metric("warmpath.prompts_sent"), u64::from(sent));
        assert_eq!(host.metric("warmpath.prompts_cut"), u64::from(!sent));
    }
}

#[test]
fn a_model_that_left_the_catalog_is_unknown() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo", "other"]);
    serve(&mut root, &host, &catalog(Mode::Steer, vec![definition("other", "other")]));
    assert!(!steers(&host, &root));
    assert_eq!(host.passes("unknown_model"), 1);
}

#[test]
fn a_sidecar_that_is_away_changes_nothing_and_is_asked_ever_more_rarely() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let before = host.now.get();
        tick_until_get(&mut root, &host);
        pauses.push((host.now.get() - before).as_millis());
        let token = host.gets.borrow().last().unwrap().0;
        root.on_http_answer(&host, token, 0, 0);
    }
    assert_eq!(host.metric("warmpath.catalog_errors"), 8);
    assert!(pauses[1] < 500, "{pauses:?}");
    assert!(pauses[7] > 3000 && pauses[7] < 7000, "{pauses:?}");
    assert!(steers(&host, &root));
    serve(&mut root, &host, &catalog(Mode::Observe, vec![definition("demo", "demo")]));
    assert!(!steers(&host, &root), "read again");
}

#[test]
fn an_answer_that_never_comes_is_given_up() {
    let (host, mut root) = configured();
    tick_until_get(&mut root, &host);
    let lost = host.gets.borrow().last().unwrap().0;
    tick_until_get(&mut root, &host);
    assert_eq!(host.metric("warmpath.catalog_errors"), 1);
    root.on_http_answer(&host, lost, 1, 0);
    assert_eq!(host.metric("warmpath.wrong_phase"), 1, "too late");
}

#[test]
fn bad_answers_are_counted_and_tried_again() {
    let mut old = catalog(Mode::Steer, vec![]);
    old.version = 99;
    let bad: [(&str, Vec<u8>); 4] =
        [("503", Vec::new()), ("200", b"{".to_vec()), ("200", Vec::new()), ("200", json(&old))];
    for (status, body) in bad {
        let (host, mut root) = configured();
        tick_until_get(&mut root, &host);
        answer_get(&mut root, &host, status, &body);
        assert_eq!(host.metric("warmpath.catalog_errors"), 1);
        serve(&mut root, &host, &catalog(Mode::Steer, vec![definition("demo", "1")]));
        assert!(steers(&host, &root));
    }
}

#[test]
fn a_call_that_envoy_refuses_is_tried_again() {
    let (host, mut root) = configured();
    host.failing.borrow_mut().push("http_get");
    host.advance(REPORT_EVERY);
    root.on_tick(&host);
    assert_eq!(host.metric("warmpath.catalog_errors"), 1);
    host.failing.borrow_mut().clear();
    serve(&mut root, &host, &catalog(Mode::Steer, vec![definition("demo", "1")]));
    assert!(steers(&host, &root));
}

#[test]
fn an_asset_with_the_wrong_hash_is_never_loaded() {
    let (host, mut root) = configured();
    let catalog = catalog(Mode::Steer, vec![definition("demo", "1")]);
    tick_until_get(&mut root, &host);
    answer_get(&mut root, &host, "200", &json(&catalog));
    answer_get(&mut root, &host, "200", b"something else");
    assert_eq!((host.metric("warmpath.asset_errors"), host.metric("warmpath.asset_loads")), (1, 0));
    serve(&mut root, &host, &catalog);
    assert!(steers(&host, &root));
}

#[test]
fn a_model_that_cannot_be_loaded_does_not_keep_others_from_it() {
    let (host, mut root) = configured();
    let mut broken = definition("broken", "1");
    // The template's bytes are no tokenizer.
    broken.tokenize = Tokenize::Inline(broken.chat_template.clone().unwrap());
    let mut huge = definition("huge", "2");
    huge.tokenize =
        Tokenize::Inline(AssetRef { bytes: crate::fetch::ASSET_BYTES_MAX + 1, ..tokenizer(&huge).clone() });
    serve(&mut root, &host, &catalog(Mode::Steer, vec![broken, huge, definition("demo", "3")]));
    assert_eq!((host.metric("warmpath.asset_errors"), host.metric("warmpath.asset_loads")), (2, 1));
    assert!(steers(&host, &root));
    let models = root.vm().models.borrow().serving(Some("huge")).map(|_| ()).unwrap_err();
    assert_eq!(models.label(), "not_ready");
    assert!(root.vm().models.borrow().missing().is_none(), "not tried again");
}

#[test]
fn a_definition_that_changes_while_its_assets_come_is_not_mixed_up() {
    let (host, mut root) = configured();
    tick_until_get(&mut root, &host);
    answer_get(&mut root, &host, "200", &json(&catalog(Mode::Steer, vec![definition("demo", "1")])));
    root.vm().models.borrow_mut().apply(catalog(Mode::Steer, vec![definition("demo", "2")]));
    answer_get(&mut root, &host, "200", TEMPLATE);
    assert_eq!(host.metric("warmpath.asset_loads"), 0);
    answer_get(&mut root, &host, "200", TEMPLATE);
    answer_get(&mut root, &host, "200", TOKENIZER);
    let vm = root.vm();
    let models = vm.models.borrow();
    let Ok(Serving::Here(model)) = models.serving(None) else { panic!("not served") };
    assert_eq!(model.definition().digest, "2");
}
