//! Which capabilities a container has.

use fluyt_model::sandbox::{CAPABILITIES, DEFAULT_CAPABILITIES, Security};

/// The names, without `CAP_`, in the kernel's order.
pub fn effective(security: &Security) -> Vec<&'static str> {
    if security.privileged {
        return CAPABILITIES.to_vec();
    }
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name);
    let all = has(&security.cap_add, "ALL");
    let none = has(&security.cap_drop, "ALL");
    CAPABILITIES
        .iter()
        .copied()
        .filter(|name| {
            let base = all || (!none && DEFAULT_CAPABILITIES.contains(name));
            (base || has(&security.cap_add, name)) && !has(&security.cap_drop, name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> Vec<&'static str> {
        let own = |l: &[&str]| l.iter().map(|n| (*n).to_owned()).collect();
        effective(&Security { cap_add: own(add), cap_drop: own(drop), ..Security::default() })
    }

    #[test]
    fn added_and_dropped_as_docker_does() {
        assert_eq!(of(&[], &[]).len(), DEFAULT_CAPABILITIES.len());
        assert_eq!(of(&["NET_ADMIN"], &["ALL"]), ["NET_ADMIN"]);
        assert_eq!(of(&["ALL"], &["NET_RAW"]).len(), CAPABILITIES.len() - 1);
        assert!(of(&[], &["ALL"]).is_empty());
        assert!(!of(&[], &["CHOWN"]).contains(&"CHOWN"));
    }
}
