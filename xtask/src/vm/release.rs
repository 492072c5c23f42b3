//! The kernels of the matrix: which Debian suites hold the builds of each.

use super::apt::Archive;

/// A line of kernels. Its newest build among the suites is taken.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) label: &'static str,
    pub(super) suites: &'static [(&'static str, Archive)],
    /// What follows `linux-image-` in the package's name, as a regular expression.
    pub(super) name: &'static str,
    /// One that is not can be skipped, with its reason, when it cannot be fetched.
    pub(crate) required: bool,
}

/// From old to new. 6.1 is required: it is the kernel of the distribution this is developed on.
pub(crate) const RELEASES: &[Release] = &[
    Release {
        label: "5.10",
        suites: &[
            ("bullseye", Archive::Main),
            ("bullseye-updates", Archive::Main),
            ("bullseye-security", Archive::Security),
        ],
        name: r"5\.10\.",
        required: false,
    },
    Release {
        label: "6.1",
        suites: &[
            ("bookworm", Archive::Main),
            ("bookworm-updates", Archive::Main),
            ("bookworm-security", Archive::Security),
        ],
        name: r"6\.1\.",
        required: true,
    },
    Release {
        label: "6.12",
        suites: &[("bookworm-backports", Archive::Main), ("bookworm-security", Archive::Security)],
        name: r"6\.12\.",
        required: false,
    },
    Release { label: "newest", suites: &[("sid", Archive::Main)], name: "[0-9]", required: false },
];

impl std::str::FromStr for &'static Release {
    type Err = String;

    fn from_str(label: &str) -> Result<Self, Self::Err> {
        let known = || RELEASES.iter().map(|release| release.label).collect::<Vec<_>>().join(", ");
        RELEASES
            .iter()
            .find(|release| release.label == label)
            .ok_or_else(|| format!("`{label}` is none of the kernels {}", known()))
    }
}
