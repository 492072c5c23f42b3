//! Parses apt's sources, in the one-line and the deb822 format, as far as finding Debian's mirror needs it.

use super::apt::Archive;

/// One place with its suites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Suites of Debian itself; what follows a `-` (`-security`, `-backports`) is looked at apart.
const SUITES: &[&str] =
    &["stable", "oldstable", "testing", "unstable", "sid", "bullseye", "bookworm", "trixie", "forky", "duke"];

impl Source {
    /// Which of Debian's archives this is; `None` for somebody else's.
    pub(super) fn archive(&self) -> Option<Archive> {
        if !self.components.iter().any(|component| component == "main") || self.uri.starts_with("cdrom") {
            return None;
        }
        self.suites.iter().find_map(|suite| {
            // `bullseye/updates` was how suites of the security archive were called before bullseye.
            let (name, pocket) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
            let security = pocket.starts_with("security") || suite.ends_with("/updates");
            SUITES.contains(&name).then_some(if security { Archive::Security } else { Archive::Main })
        })
    }

    /// A one-line source for another suite of the same archive.
    pub(super) fn line(&self, suite: &str, trusted: bool) -> String {
        let mut options = Vec::new();
        options.extend(self.signed_by.as_ref().map(|key| format!("signed-by={key}")));
        options.extend(trusted.then(|| "trusted=yes".to_owned()));
        let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
        format!("deb {options}{} {suite} main", self.uri)
    }
}

/// `deb [option=value ...] uri suite component ...`
pub(super) fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.starts_with(char::is_whitespace).then(|| rest.trim_start())?;
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.and_then(key_file),
    })
}

/// Stanzas of `Field: value`, lines that start with a space going on with the value.
pub(super) fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines.chain([""]) {
        if line.trim().is_empty() {
            sources.extend(from_stanza(&stanza));
            stanza.clear();
        } else if line.starts_with(char::is_whitespace) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn from_stanza(stanza: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| stanza.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let words = |name: &str| field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    if field("enabled").is_some_and(|enabled| enabled.eq_ignore_ascii_case("no")) {
        return None;
    }
    if !field("types")?.split_whitespace().any(|kind| kind == "deb") {
        return None;
    }
    Some(Source {
        uri: field("uris")?.split_whitespace().next()?.to_owned(),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").and_then(key_file),
    })
}

/// A key may be written out in the source itself; then the machine's trusted keys have to do.
fn key_file(value: &str) -> Option<String> {
    value.starts_with('/').then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources() {
        let text = "# deb http://old.test/debian bookworm main\n\
            deb-src http://a.test/debian bookworm main\n\
            deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://docker.test/linux bookworm stable\n\
            deb http://a.test/debian bookworm main contrib # ours\n\
            deb\t[signed-by=/k.gpg] http://s.test/debian-security bookworm-security main\n";
        let sources = parse_one_line(text);
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[0].archive(), None, "somebody else's suite has no `main`");
        assert_eq!(sources[1].archive(), Some(Archive::Main));
        assert_eq!(sources[1].line("sid", false), "deb http://a.test/debian sid main");
        assert_eq!(sources[2].archive(), Some(Archive::Security));
        assert_eq!(
            sources[2].line("bullseye-security", true),
            "deb [signed-by=/k.gpg trusted=yes] http://s.test/debian-security bullseye-security main"
        );
    }

    #[test]
    fn deb822_sources() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://a.test/debian\nSuites: bookworm bookworm-updates\n\
            Components: main\nSigned-By: /usr/share/keyrings/debian.gpg\n\n\
            Types: deb\nURIs: http://s.test/debian-security\nSuites: bookworm-security\nComponents: main\n\
            Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n -----END PGP PUBLIC KEY BLOCK-----\n\n\
            Types: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n\n\
            Types: deb\nURIs: http://node.test/node\nSuites: nodistro\nComponents: main";
        let sources = parse_deb822(text);
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[0].archive(), Some(Archive::Main));
        assert_eq!(
            sources[0].line("sid", false),
            "deb [signed-by=/usr/share/keyrings/debian.gpg] http://a.test/debian sid main"
        );
        assert_eq!(sources[1].archive(), Some(Archive::Security));
        assert_eq!(sources[1].signed_by, None);
        assert_eq!(sources[2].archive(), None);
    }

    #[test]
    fn a_cdrom_is_no_mirror() {
        assert_eq!(
            parse_one_line("deb cdrom:[Debian]/ bookworm main").first().and_then(Source::archive),
            None
        );
    }
}
