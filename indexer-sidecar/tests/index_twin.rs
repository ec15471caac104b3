//! The index against its naive twin: random events of two publishers, losses between them, every query after each.

mod twin;

use indexer_sidecar::events::event::Medium;
use indexer_sidecar::index::EndpointMatch;
use proptest::prelude::*;
use twin::{Op, Twin, all_prompts, apply, ask, event, index_of_two, steps, stream};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_index_equals_its_twin(steps in steps()) {
        let index = index_of_two(1_000_000);
        let mut twin = Twin::default();
        for op in steps {
            let (Op::Store { rank, .. } | Op::Remove { rank, .. } | Op::Cleared { rank } | Op::Lost { rank }) = op;
            match event(&op) {
                Some(event) => apply(&index, &stream(rank), event),
                None => index.doubt(&stream(rank)),
            }
            twin.apply(&op);
            for query in all_prompts() {
                let lengths = |entry: &EndpointMatch| (entry.lengths[0], entry.lengths[Medium::Cpu as usize]);
                let got: Vec<_> = ask(&index, &query).iter().map(lengths).collect();
                prop_assert_eq!(got, [twin.leading(0, &query), twin.leading(1, &query)], "{:?} after {:?}", query, op);
            }
            prop_assert_eq!(index.len(), twin.counted());
        }
        for rank in 0..2 {
            index.close(&stream(rank));
        }
        prop_assert_eq!(index.len(), 0);
    }

    #[test]
    fn a_full_index_only_credits_less(
        steps in steps(),
        blocks_max in 0..10usize,
    ) {
        let index = index_of_two(blocks_max);
        let mut twin = Twin::default();
        for op in steps {
            if twin.is_torn(&op) {
                continue;
            }
            let (Op::Store { rank, .. } | Op::Remove { rank, .. } | Op::Cleared { rank } | Op::Lost { rank }) = op;
            match event(&op) {
                Some(event) => apply(&index, &stream(rank), event),
                None => index.doubt(&stream(rank)),
            }
            twin.apply(&op);
            prop_assert!(index.len() <= blocks_max);
            for query in all_prompts() {
                for (rank, entry) in ask(&index, &query).iter().enumerate() {
                    prop_assert!(entry.blocks <= twin.leading(rank, &query).0, "{:?} after {:?}", query, op);
                }
            }
        }
    }
}
