//! What commands beside a running Refrain need of its configuration: whom to ask, and as whom.
//!
//! # Scope
//! All sources are read, and what cannot be read is told. But only addresses and token are checked: no file that a setting
//! names is opened, and of the secrets that Refrain was started with none but the token has to be known.

use super::{
    Problems, Sources, Token, check, file, load::placed, problem::Problem, read,
    secret::Environment, tree::Node,
};

/// Where Refrain is asked, and by which token.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Addresses that calls are accepted on, `host:port`; at least one.
    pub listen: Vec<String>,
    /// Address of the admin listener, `host:port`; `None` when switched off.
    pub admin: Option<String>,
    /// What the admin listener is opened by, or what is wrong with it: not everybody needs one.
    pub token: Result<Option<Token>, Problems>,
}

impl Contact {
    /// Reads where Refrain is asked.
    ///
    /// Fails with what cannot be read in any of the sources, and with what is wrong with the addresses.
    pub fn load(sources: Sources) -> Result<Self, Problems> {
        let env = Environment::of(&sources.env);
        let (tree, problems) = sources.read();
        Self::settle(&tree, problems, &env)
    }

    fn settle(
        tree: &Node,
        mut problems: Vec<Problem>,
        env: &Environment,
    ) -> Result<Self, Problems> {
        let (file, found) = read::read::<file::File>(tree);
        problems.extend(found);
        let findings = check::listeners(&file);
        problems.extend(findings.iter().map(|finding| placed(finding, tree)));
        if !problems.is_empty() {
            return Err(Problems::of(problems));
        }
        let token = check::token(&file.admin, env);
        Ok(Self {
            listen: file.listen,
            admin: check::admin(file.admin.listen),
            token: token.map_err(|finding| Problems::of(vec![placed(&finding, tree)])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load::FILE_NAME, problem::Place};

    const TOKEN: &str = "0123456789abcdef-token";

    fn contact(text: &str) -> Result<Contact, String> {
        let env = Environment::of(&[("TOKEN".into(), TOKEN.into())]);
        let read = Node::parse(FILE_NAME, text);
        let (tree, problems) = match read {
            Ok(tree) => (tree, Vec::new()),
            Err(problems) => (Node::empty(Place::File(FILE_NAME.into())), problems),
        };
        Contact::settle(&tree, problems, &env).map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_only_the_proxy_needs_need_not_be_there() {
        let text = r#"
            admin.listen = "127.0.0.1:9"
            admin.token = "${TOKEN}"
            store.redis = "redis://:${NONE}@h"
            key.secret = "${NONE}"
            [[upstream]]
            api_key = "${NONE}"
            tls.ca = "/none.pem"
        "#;
        let contact = contact(text).unwrap();
        assert_eq!(contact.listen, ["127.0.0.1:8080"]);
        assert_eq!(contact.admin.as_deref(), Some("127.0.0.1:9"));
        let token = contact.token.unwrap().unwrap();
        assert_eq!(token.expose(), TOKEN);
    }

    #[test]
    fn a_token_that_is_not_known_is_told_to_who_needs_it() {
        let contact = contact("admin.token = '${NONE}'").unwrap();
        insta::assert_snapshot!(contact.token.unwrap_err(), @"
        error: proxy.toml:1:15: admin.token: the environment has no variable `NONE`, or an empty one
          hint: set it in the environment that this command runs in
        ");
    }

    #[test]
    fn what_says_nothing_certain_is_refused() {
        for text in ["listen =", "lisen = 1", "admin.listen = 'x'", "listen = []"] {
            assert!(contact(text).is_err(), "{text}");
        }
        assert_eq!(contact("admin.listen = 'off'").unwrap().admin, None);
    }
}
