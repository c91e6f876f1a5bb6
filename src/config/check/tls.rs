//! `tls` of `[[upstream]]`: files that can be read, and a certificate that has its key.

use http::uri::Scheme;

use super::{Findings, file};
use crate::config::{
    BaseUrl, ClientCertificate, Tls,
    load::Files,
    problem::Complaint,
    tls::{certificates, client, private_key, roots},
};

/// Checks what `files` say at the paths of `tls`; `key` is the setting.
pub(super) fn tls(key: &str, tls: &file::Tls, files: &Files, findings: &mut Findings) -> Tls {
    let mut read = Reader {
        key,
        files,
        findings,
    };
    let roots = read.file("ca", &tls.ca, roots);
    Tls {
        roots: roots.unwrap_or_default(),
        client: read.client(tls),
    }
}

/// Refuses certificates for an upstream that is called without TLS.
pub(super) fn check_scheme(
    key: &str,
    tls: &file::Tls,
    base_url: Option<&BaseUrl>,
    findings: &mut Findings,
) {
    let is_plain = base_url.is_some_and(|url| url.scheme != Scheme::HTTPS);
    if is_plain && *tls != file::Tls::default() {
        let base_url = key.replace(".tls", ".base_url");
        findings.clash(
            [key, &base_url],
            "means nothing beside an `http://` upstream",
            "write `https://` in `base_url`, or leave `tls` out",
        );
    }
}

struct Reader<'a> {
    key: &'a str,
    files: &'a Files,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn client(&mut self, tls: &file::Tls) -> Option<ClientCertificate> {
        let chain = self.file("cert", &tls.cert, certificates);
        let key = self.file("key", &tls.key, private_key);
        let [cert_key, key_key] = ["cert", "key"].map(|name| format!("{}.{name}", self.key));
        if tls.cert.is_empty() != tls.key.is_empty() {
            self.findings.clash(
                [&cert_key, &key_key],
                "`cert` and `key` go together",
                "name both, or neither",
            );
        }
        self.findings.unless_ok(&cert_key, client(chain?, key?))
    }

    /// Returns what the file at `path` holds, if one is named.
    fn file<T>(
        &mut self,
        name: &str,
        path: &str,
        parse: impl Fn(&[u8]) -> Result<T, Complaint>,
    ) -> Option<T> {
        if path.is_empty() {
            return None;
        }
        let told = |complaint: Complaint| {
            Complaint::new(format!("`{path}` {}", complaint.what), complaint.hint)
        };
        let content = self
            .files
            .get(path)
            .and_then(|content| parse(content).map_err(told));
        self.findings
            .unless_ok(&format!("{}.{name}", self.key), content)
    }
}
