//! The VM's root context: what happens outside requests.

use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use warmpath_proto::v1::AskRequest;
use warmpath_proto::v1::ask_request::Ask;

use crate::config;
use crate::fetch::Fetcher;
use crate::host::{Host, HostResult};
use crate::line::{Line, Waiter};
use crate::metrics::Counter;
use crate::pick;
use crate::stream::AskEnd;
use crate::vm::Vm;

/// How often reports are sent. The sidecar's counts of outstanding requests lag by up to this much, so it is short beside
/// a prompt's prefill.
pub const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The root context; one per VM.
#[derive(Default)]
pub struct Root {
    vm: Rc<Vm>,
    fetcher: Fetcher,
    context: u32,
    next_report: Duration,
}

impl Root {
    /// The root context with this number in Envoy.
    pub fn new(context: u32) -> Self {
        let root = Self { context, ..Self::default() };
        root.vm.line.replace(Line::of(context));
        root
    }

    /// What the VM's streams share.
    pub fn vm(&self) -> Rc<Vm> {
        Rc::clone(&self.vm)
    }

    /// The VM has started.
    pub fn on_vm_start(&self, host: &dyn Host) {
        log::info!("warmpath filter {}", crate::VERSION);
        self.vm.define_metrics(host);
    }

    /// Reads the plugin configuration. A bad one is logged and counted, and every request passes: refusing it would
    /// stop Envoy's start-up.
    pub fn on_configure(&mut self, host: &dyn Host) {
        let config = host
            .plugin_configuration()
            .map_err(|error| error.to_string())
            .and_then(|json| config::parse(&json).map_err(|error| error.to_string()));
        match config {
            Ok(config) => {
                let timeout = config.callout_timeout;
                self.vm.set_config(Some(config));
                if let Err(error) = self.vm.line.borrow_mut().clock.configure(host, timeout) {
                    log::error!("no request will be steered: {error}");
                    self.vm.count(host, Counter::HostErrors);
                }
            }
            Err(error) => {
                log::error!("no request will be steered: {error}");
                self.vm.count(host, Counter::ConfigErrors);
                self.vm.set_config(None);
            }
        }
    }

    /// Ends asks that are overdue, polls the catalog, opens the line and sends reports.
    pub fn on_tick(&mut self, host: &dyn Host) {
        let Some(config) = self.vm.config() else { return };
        self.end_overdue(host);
        self.fetcher.on_tick(host, &self.vm, &config);
        self.open_line(host);
        self.send_reports(host);
    }

    /// An HTTP call of the VM was answered, or failed (`headers` is 0 then).
    pub fn on_http_answer(&mut self, host: &dyn Host, token: u32, headers: usize, bytes: usize) {
        let known = match self.vm.config() {
            Some(config) => self.fetcher.on_answer(host, &self.vm, &config, token, headers, bytes),
            None => false,
        };
        if !known {
            log::debug!("answer to HTTP call {token}, which nobody waits for");
            self.vm.count(host, Counter::WrongPhase);
        }
        // Not at the next turn of the clock: the first requests after a start would go unsteered.
        self.open_line(host);
        // The catalog's polls come as long as the VM lives, so this is where the clock may slow down.
        let rests = self.vm.line.borrow_mut().rest(host);
        self.checked(host, rests);
    }

    /// A message has come on a stream.
    pub fn on_line_message(&mut self, host: &dyn Host, token: u32, bytes: usize) {
        if !self.vm.line.borrow().is(token) {
            self.vm.count(host, Counter::WrongPhase);
            return;
        }
        let message = match bytes {
            0 => Ok(Vec::new()),
            1..=pick::ANSWER_BYTES_MAX => host.grpc_message(bytes).map_err(|error| {
                self.vm.count(host, Counter::HostErrors);
                error.to_string()
            }),
            _ => Err(format!("{bytes} bytes")),
        };
        let answer = message.and_then(|message| pick::decode(&message).ok_or_else(|| "malformed".to_owned()));
        let answer = match answer {
            Ok(answer) => answer,
            // Whoever it was for, nothing that follows can be trusted.
            Err(error) => {
                log::warn!("an answer of the sidecar cannot be read: {error}");
                self.vm.count(host, Counter::AnswersUnused);
                self.close_line(host, || AskEnd::Closed);
                self.quicken(host);
                return;
            }
        };
        let waiter = self.vm.line.borrow_mut().answered(answer.id);
        match waiter {
            Some(waiter) => self.end(host, &waiter, AskEnd::Answered(answer)),
            None => self.vm.count(host, Counter::AnswersUnused),
        }
        self.act_for_self(host);
    }

    /// A stream has closed.
    pub fn on_line_closed(&mut self, host: &dyn Host, token: u32, status: u32) {
        if !self.vm.line.borrow().is(token) {
            self.vm.count(host, Counter::WrongPhase);
            return;
        }
        log::debug!("the stream to the sidecar has closed with status {status}");
        self.close_line(host, || AskEnd::Closed);
        self.quicken(host);
    }

    /// The clock opens a closed line again. (What closes it at a turn of the clock is an ask that waits, for which it is
    /// quick already.)
    fn quicken(&self, host: &dyn Host) {
        let quick = self.vm.line.borrow_mut().clock.quicken(host);
        self.checked(host, quick);
    }

    /// Opens the line if it is closed, may be opened, and there is a model to ask for.
    fn open_line(&self, host: &dyn Host) {
        let mut line = self.vm.line.borrow_mut();
        if line.is_open() || !self.vm.models.borrow().ready() {
            return;
        }
        let Some(config) = self.vm.config() else { return };
        let Some(service) = pick::grpc_service(&config.pick_cluster) else { return };
        if let Err(error) = line.open(host, &service) {
            log::debug!("{error}");
        }
        if line.is_open() {
            self.vm.count(host, Counter::LineOpened);
        }
    }

    /// A sidecar that has stopped is asked on a new stream when it is asked again: on the old one, everything that was
    /// sent in vain would come before.
    fn end_overdue(&self, host: &dyn Host) {
        let now = host.now();
        let (overdue, lost) = {
            let mut line = self.vm.line.borrow_mut();
            (line.overdue(now), line.lost(now))
        };
        for waiter in &overdue {
            self.end(host, waiter, AskEnd::Overdue);
        }
        self.act_for_self(host);
        if lost || (!overdue.is_empty() && self.vm.breaker.borrow().is_open()) {
            self.close_line(host, || AskEnd::GivenUp);
        }
    }

    fn close_line(&self, host: &dyn Host, end: impl Fn() -> AskEnd) {
        let waiters = self.vm.line.borrow_mut().close(host);
        self.vm.count(host, Counter::LineClosed);
        for waiter in &waiters {
            self.end(host, waiter, end());
        }
        self.act_for_self(host);
    }

    /// Tells a request how its ask ended.
    fn end(&self, host: &dyn Host, waiter: &Waiter, end: AskEnd) {
        let acts = host.act_for(waiter.context);
        match (acts, waiter.stream.try_borrow_mut()) {
            (Ok(()), Ok(mut stream)) => stream.on_pick_answer(host, waiter.id, end),
            // Envoy has forgotten the request: nothing waits.
            (acts, _) => {
                log::debug!("request {}: {acts:?}", waiter.context);
                self.vm.count(host, Counter::AnswersUnused);
            }
        }
    }

    fn act_for_self(&self, host: &dyn Host) {
        self.checked(host, host.act_for(self.context));
    }

    /// A call whose failure changes nothing but a counter.
    fn checked(&self, host: &dyn Host, result: HostResult<()>) {
        if let Err(error) = result {
            log::warn!("{error}");
            self.vm.count(host, Counter::HostErrors);
        }
    }

    fn send_reports(&mut self, host: &dyn Host) {
        let now = host.now();
        if now < self.next_report {
            return;
        }
        self.next_report = now + REPORT_EVERY;
        let Some((reports, count)) = self.vm.reports.borrow_mut().take() else { return };
        let told = match self.vm.breaker.borrow().is_open() {
            // It would only be kept by Envoy.
            true => false,
            false => {
                let message = AskRequest { ask: Some(Ask::Reports(reports)), ..AskRequest::default() };
                self.vm.line.borrow().tell(host, &message.encode_to_vec()).is_ok()
            }
        };
        let counter = if told { Counter::ReportsSent } else { Counter::ReportsDropped };
        self.vm.count_many(host, counter, count);
    }
}
