//! Docker's types, lowered to the sandbox contract and rendered from it.
#![forbid(unsafe_code)]
