//! What every object says about itself.

use std::collections::BTreeMap;

objects! {
    /// `metadata`.
    Meta {
        /// Its name.
        name: String,
        /// The namespace that it is in.
        namespace: String,
        /// The id of this one object.
        uid: String,
        /// When it was made.
        creation_timestamp: Option<String>,
        /// Words to find it by.
        labels: BTreeMap<String, String>,
        /// Words for programs.
        annotations: BTreeMap<String, String>,
    }

    /// Which objects belong to another one.
    LabelSelector {
        /// The labels that they have.
        match_labels: BTreeMap<String, String>,
    }
}
