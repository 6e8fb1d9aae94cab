//! The heap of this process as the kernel sees it.

/// Gives pages of the heap that are free at the moment back to the kernel. Worth its microseconds where much was freed
/// and little will be needed for long.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator's own function; it moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
