//! Several data-parallel ranks behind one HTTP port: the engine is told the rank that holds the prompt.

#[macro_use]
mod common;

use common::{completion, events_arrive, ids, send, start};
use warmpath_harness::client::whole;
use warmpath_harness::{PodOptions, Stack, StackBuilder, Steer};

const RANK_HEADER: &str = "x-data-parallel-rank";

fn two_pods_of_two_ranks(builder: StackBuilder) -> StackBuilder {
    builder.pods(2, PodOptions { ranks: 2, ..PodOptions::default() })
}

/// Tokens that each rank of each pod has found in its cache.
async fn hits(stack: &Stack) -> Vec<f64> {
    let mut hits = Vec::new();
    for pod in &stack.pods {
        let state = pod.client().get("/sim/state").await.unwrap().ok().unwrap().json().unwrap();
        let ranks = state["ranks"].as_array().unwrap().clone();
        hits.extend(ranks.iter().map(|rank| rank["prefix_cache_hits"].as_f64().unwrap()));
    }
    hits
}

/// Asks with the client's own header, if any; returns the matched blocks and by how much each rank's hits grew.
async fn ask(stack: &Stack, number: u32, rank: Option<&str>) -> ((usize, usize), Vec<f64>) {
    let before = hits(stack).await;
    let client = stack.client();
    let mut request = client.json_request("/v1/completions");
    if let Some(rank) = rank {
        request = request.header(RANK_HEADER, rank);
    }
    let outcome = send(stack, &client, request, whole(completion(ids(number, 4)).to_string())).await;
    assert_eq!((outcome.response.status.as_u16(), outcome.reason()), (200, "steered"));
    events_arrive(stack).await;
    let after = hits(stack).await;
    (outcome.matched(), after.iter().zip(before).map(|(after, before)| after - before).collect())
}

async fn the_rank_is_told(steer: Steer) {
    let Some(stack) = start("the_rank_is_told", steer, two_pods_of_two_ranks).await else { return };
    let block = common::BLOCK as f64;
    for number in 0..4 {
        // Nobody holds it: the client's choice of a rank stands, and an idle engine would take rank 0.
        let (matched, new) = ask(&stack, number, Some("1")).await;
        assert_eq!((matched, new), ((0, 4), vec![0.0; 4]));
        let (matched, found) = ask(&stack, number, None).await;
        assert_eq!(matched, (4, 4));
        assert_eq!((found[0], found[2], found[1] + found[3]), (0.0, 0.0, 4.0 * block), "{found:?}");
        // A client cannot move it away from its blocks, nor to a rank that there is not.
        for other in ["0", "9"] {
            assert_eq!(ask(&stack, number, Some(other)).await, ((4, 4), found.clone()));
        }
    }
}

in_both_wirings! {
    the_rank_is_told: a_match_names_its_rank_header, a_match_names_its_rank_filter_state;
}
