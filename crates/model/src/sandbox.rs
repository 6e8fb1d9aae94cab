//! The one execution contract: what a sandbox should be, and what it is.
