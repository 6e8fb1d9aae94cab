//! Bridges, addresses, nftables, DNS.
#![forbid(unsafe_code)]
