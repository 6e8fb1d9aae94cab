//! Byte sizes and durations as people type and read them.
