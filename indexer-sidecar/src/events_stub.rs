/// STUB
#[derive(Default)]
pub struct EventMetrics {}
impl EventMetrics {
    pub fn register(&self, _: &mut prometheus_client::registry::Registry) {}
}
/// STUB
pub struct CentralConfig {
    pub bind: String,
    pub topics: std::collections::BTreeMap<String, String>,
}
/// STUB
pub async fn run(
    endpoints: tokio::sync::watch::Receiver<std::sync::Arc<crate::endpoints::EndpointSet>>,
    rules: tokio::sync::watch::Receiver<
        std::sync::Arc<std::collections::HashMap<std::sync::Arc<str>, crate::index::KeyRules>>,
    >,
    _c: Option<CentralConfig>,
    index: std::sync::Arc<crate::index::SharedIndex>,
    _m: std::sync::Arc<EventMetrics>,
    shutdown: tokio_util::sync::CancellationToken,
) {
    let _ = (endpoints, rules, index);
    shutdown.cancelled().await
}
