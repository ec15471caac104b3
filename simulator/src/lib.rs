//! A vLLM look-alike.
