//! Rules: which users may do what with which repositories. Pure.

use fluyt_model::{Error, Result};

use crate::server::config::Rule;

/// Something that is done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// The word for it in scopes and rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    /// The actions that a word stands for; none for an unknown word.
    pub fn parse(word: &str) -> Vec<Self> {
        Self::ALL.into_iter().filter(|a| word == "*" || word == a.name()).collect()
    }
}

/// The rules of a registry.
#[derive(Debug)]
pub(crate) struct Rights {
    /// `None`: every user may do everything.
    rules: Option<Vec<Rule>>,
}

impl Rights {
    /// Checks the rules.
    ///
    /// # Errors
    /// `Kind::Invalid` for an unknown action or a pattern with a `*` that is not at its end.
    pub fn new(rules: Option<&[Rule]>) -> Result<Self> {
        for rule in rules.unwrap_or_default() {
            if let Some(bad) = rule.actions.iter().find(|a| Action::parse(a).is_empty()) {
                let hint = "use pull, push, delete or *";
                return Err(Error::invalid(format!("rights: unknown action {bad:?}")).with_hint(hint));
            }
            if let Some(bad) = rule.repositories.iter().find(|r| r.trim_end_matches('*').contains('*')) {
                let hint = "a * stands at the end, for anything";
                return Err(Error::invalid(format!("rights: repository pattern {bad:?}")).with_hint(hint));
            }
        }
        Ok(Self { rules: rules.map(<[Rule]>::to_vec) })
    }

    /// Whether a user (`None`: somebody without a name) may do something.
    pub fn allow(&self, user: Option<&str>, repository: &str, action: Action) -> bool {
        let Some(rules) = &self.rules else { return user.is_some() };
        rules.iter().any(|rule| {
            rule.users.iter().any(|who| match (who.as_str(), user) {
                ("anonymous", _) => true,
                ("*", user) => user.is_some(),
                (who, user) => Some(who) == user,
            }) && rule.actions.iter().any(|word| Action::parse(word).contains(&action))
                && rule.repositories.iter().any(|pattern| fits(pattern, user, repository))
        })
    }
}

fn fits(pattern: &str, user: Option<&str>, repository: &str) -> bool {
    let pattern = match (pattern.contains("{user}"), user) {
        (true, None) => return false,
        (true, Some(user)) => pattern.replace("{user}", user),
        (false, _) => pattern.to_owned(),
    };
    match pattern.strip_suffix('*') {
        Some(start) => repository.starts_with(start),
        None => repository == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(users: &[&str], repositories: &[&str], actions: &[&str]) -> Rule {
        let all = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Rule { users: all(users), repositories: all(repositories), actions: all(actions) }
    }

    #[test]
    fn rules_add_up() {
        let rules = [
            rule(&["anonymous"], &["public/*"], &["pull"]),
            rule(&["*"], &["{user}/*"], &["*"]),
            rule(&["ann", "bob"], &["team/app"], &["pull", "push"]),
        ];
        let rights = Rights::new(Some(&rules)).unwrap();
        for (user, repository, action, wanted) in [
            (None, "public/x", Action::Pull, true),
            (None, "public/x", Action::Push, false),
            (Some("eve"), "public/x", Action::Pull, true),
            (Some("eve"), "eve/x/y", Action::Delete, true),
            (Some("eve"), "ann/x", Action::Pull, false),
            (None, "{user}/x", Action::Pull, false),
            (Some("ann"), "team/app", Action::Push, true),
            (Some("ann"), "team/app", Action::Delete, false),
            (Some("ann"), "team/apple", Action::Pull, false),
        ] {
            assert_eq!(rights.allow(user, repository, action), wanted, "{user:?} {repository} {action:?}");
        }
        let open = Rights::new(None).unwrap();
        assert!(open.allow(Some("x"), "y", Action::Delete) && !open.allow(None, "y", Action::Pull));
    }

    #[test]
    fn wrong_rules_are_named() {
        assert!(
            Rights::new(Some(&[rule(&["a"], &["b"], &["pul"])])).unwrap_err().to_string().contains("pul")
        );
        assert!(
            Rights::new(Some(&[rule(&["a"], &["a*b"], &["pull"])])).unwrap_err().to_string().contains("a*b")
        );
    }
}
