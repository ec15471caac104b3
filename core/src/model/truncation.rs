//! `truncate_prompt_tokens`: the ids that vLLM keeps (`renderers/params.py`), or a pass.

use super::Model;
use crate::pass::{Pass, PassReason};
use crate::request::{Prompt, Request, Side, Truncation};
use crate::tokenizer::Encoded;

fn unknown(what: &str) -> Pass {
    Pass::new(PassReason::UnsupportedField, format!("truncate_prompt_tokens: {what}"))
}

impl Model {
    /// The request's ids after truncation.
    pub(super) fn truncated(
        &self,
        request: &Request,
        truncation: &Truncation,
        now: Option<i64>,
    ) -> Result<Encoded, Pass> {
        let keep = self.tokens_to_keep(request, truncation)?;
        let (text, add_special_tokens) = match &request.prompt {
            Prompt::Tokens(ids) => {
                let ids = slice(self.known(ids)?, keep, truncation.side.unwrap_or(Side::Left));
                return Ok(Encoded { ids, complete: true });
            }
            Prompt::Text { text, add_special_tokens, .. } => (text.clone(), *add_special_tokens),
            Prompt::Chat(chat) => {
                let rendered = self.render(chat, now)?;
                if rendered.certain < rendered.text.len() {
                    return Err(unknown("of a prompt with media"));
                }
                (rendered.text, chat.add_special_tokens)
            }
        };
        let whole = self.encode(&text, add_special_tokens)?;
        if !whole.complete {
            return Err(unknown("of a prompt whose end is beyond the limits"));
        }
        let Some(side) = truncation.side else {
            return Ok(Encoded {
                ids: self.cut_by_tokenizer(&text, add_special_tokens, whole.ids, keep)?,
                complete: true,
            });
        };
        // vLLM cuts an overlong text before it encodes it, at a length that depends on the longest token.
        if self.definition.max_model_len.is_none_or(|max| whole.ids.len() > max as usize) {
            return Err(unknown("on a named side, of a prompt longer than the model takes"));
        }
        Ok(Encoded { ids: slice(whole.ids, keep, side), complete: true })
    }

    /// How many tokens are kept. `-1`: as many as the model takes, less one where it is to answer anything.
    fn tokens_to_keep(&self, request: &Request, truncation: &Truncation) -> Result<usize, Pass> {
        let max = self.definition.max_model_len.map(u64::from);
        let keep = match (truncation.tokens, max) {
            (Some(tokens), Some(max)) if tokens > max => {
                return Err(Pass::new(
                    PassReason::InvalidField,
                    format!(
                        "truncate_prompt_tokens: {tokens} is more than the model's length of {max} tokens"
                    ),
                ));
            }
            (Some(tokens), _) => tokens,
            (None, Some(max)) => max - u64::from(request.output_tokens_max.is_some_and(|tokens| tokens > 0)),
            (None, None) => return Err(unknown("-1, and the model's length is not known")),
        };
        usize::try_from(keep).map_err(|_| unknown("too large"))
    }

    /// The tokenizer keeps the end of the text, and its special tokens, which count.
    fn cut_by_tokenizer(
        &self,
        text: &str,
        add_special_tokens: bool,
        whole: Vec<u32>,
        keep: usize,
    ) -> Result<Vec<u32>, Pass> {
        if whole.len() <= keep {
            return Ok(whole);
        }
        let bare = match add_special_tokens {
            true => self.encode(text, false)?.ids,
            false => return Ok(slice(whole, keep, Side::Left)),
        };
        let added = whole.len().saturating_sub(bare.len());
        if added == 0 {
            return Ok(slice(whole, keep, Side::Left));
        }
        // Where the text's own ids are among those with special tokens.
        let mut places = (0..=added).filter(|at| whole.get(*at..at + bare.len()) == Some(&bare));
        let (Some(before), None) = (places.next(), places.next()) else {
            return Err(unknown("special tokens that cannot be told from the text"));
        };
        if keep <= added {
            return Err(unknown("to no more than the special tokens"));
        }
        let (start, rest) = whole.split_at(before);
        let (_, end) = rest.split_at(bare.len());
        Ok([start, &slice(bare, keep - added, Side::Left), end].concat())
    }
}

fn slice(mut ids: Vec<u32>, keep: usize, side: Side) -> Vec<u32> {
    match side {
        Side::Left => ids.split_off(ids.len().saturating_sub(keep)),
        Side::Right => {
            ids.truncate(keep);
            ids
        }
    }
}
