//! What the demo says at the end: for people, and for programs.

use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use warmpath_harness::Stack;

use crate::policy::Figures;
use crate::workload::{GPU_BLOCKS, TEAMS, Workload};

/// The two runs, side by side.
pub(crate) fn table(workload: &Workload, round_robin: &Figures, warmpath: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "round robin", "Warmpath"]);
    let mut row = |name: &str, show: &dyn Fn(&Figures) -> String| {
        table.add_row([name.to_owned(), show(round_robin), show(warmpath)]);
    };
    row("shareable prompt tokens served from cache*", &|of| format!("{:.1} %", of.cached_share * 100.0));
    row("time to first token, median", &|of| format!("{:.0} ms", of.ttft_p50_ms));
    row("time to first token, 90 of 100", &|of| format!("{:.0} ms", of.ttft_p90_ms));
    row("requests of each pod", &|of| {
        of.requests_per_pod.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ")
    });
    row("steered requests", &|of| format!("{} of {}", of.steered, of.requests));
    row("failed requests", &|of| format!("{} of {}", of.failed, of.requests));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{table}\n* by the pods' own counters. Shareable: the {} of {} prompt tokens in full leading blocks that an\n  \
         earlier request of the run has sent. {TEAMS} shared prefixes of {} blocks in all; one pod's cache holds {GPU_BLOCKS}.",
        workload.shareable_tokens, workload.prompt_tokens, workload.prefix_blocks,
    )
}

/// Where to look while it runs.
pub(crate) fn further(stack: &Stack) -> String {
    let gateway = stack.envoy.address();
    let question = r#"{"model": "demo", "messages": [{"role": "user", "content": "Who holds my prefix?"}], "max_tokens": 8}"#;
    let mut text = format!(
        "The gateway:   curl -i http://{gateway}/v1/chat/completions -H 'content-type: application/json' \\\n\
         \x20                -d '{question}'\n\
         \x20              (the header x-pod says who answered)\n\
         Envoy:         curl -s http://{}/stats/prometheus | grep warmpath\n",
        stack.envoy.admin
    );
    if let Some(sidecar) = &stack.sidecar {
        text += &format!("The sidecar:   curl -s http://{}/metrics\n", sidecar.admin);
        text += &format!("The models:    curl -s http://{}/v1/catalog\n", sidecar.assets);
    }
    for (index, pod) in stack.pods.iter().enumerate() {
        text +=
            &format!("Pod {index}:         curl -s http://{}/metrics | grep prefix_cache\n", pod.address());
    }
    text + &format!("Logs, files:   {}\n", stack.directory().display())
}

/// Write the same figures for other programs.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_json(
    path: &Path,
    workload: &Workload,
    round_robin: &Figures,
    warmpath: &Figures,
) -> Result<()> {
    let document = json!({
        "policies": {"round_robin": round_robin, "warmpath": warmpath},
        "workload": {
            "prompt_tokens": workload.prompt_tokens,
            "shareable_tokens": workload.shareable_tokens,
            "prefix_blocks": workload.prefix_blocks,
            "pod_cache_blocks": GPU_BLOCKS,
        },
        "units": {
            "cached_share": "share of the shareable prompt tokens, 0 to 1",
            "ttft_p50_ms": "milliseconds",
            "ttft_p90_ms": "milliseconds",
            "requests": "requests",
            "failed": "requests",
            "steered": "requests",
            "max_pod_share": "share of the requests, 0 to 1",
            "requests_per_pod": "requests",
            "prompt_tokens": "tokens",
            "shareable_tokens": "tokens",
            "prefix_blocks": "blocks",
            "pod_cache_blocks": "blocks",
        },
    });
    std::fs::write(path, format!("{document:#}\n")).with_context(|| format!("writing {}", path.display()))
}
