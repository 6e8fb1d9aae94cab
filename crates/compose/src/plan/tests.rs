//! Plans of small projects, and the promise that a project that was brought up needs nothing more.
