//! Sandboxes, images, networks and volumes of one node.
#![forbid(unsafe_code)]
