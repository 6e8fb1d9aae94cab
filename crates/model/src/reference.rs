//! Image references: `[domain/]path[:tag][@digest]`, normalised as Docker normalises them.
