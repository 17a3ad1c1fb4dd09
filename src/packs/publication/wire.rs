//! A publication as JSON, on its way from a client to a daemon.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::{ContentFile, ContentPath, MOST_BYTES, MOST_FILES, Publication, PublicationError};

/// What a request with the largest publication has at most: base64, and some hundred bytes around each file.
pub const MOST_WIRE_BYTES: usize = MOST_BYTES / 3 * 4 + MOST_FILES * 1024;

/// `{"files": [{"path": …, "content_base64": …, "executable": …}]}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WirePublication {
    files: Vec<WireFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFile {
    path: String,
    content_base64: String,
    #[serde(default)]
    executable: bool,
}

impl From<&Publication> for WirePublication {
    fn from(publication: &Publication) -> Self {
        let wire = |(path, file): (&ContentPath, &ContentFile)| WireFile {
            path: path.to_string(),
            content_base64: BASE64_STANDARD.encode(&file.content),
            executable: file.executable,
        };
        Self { files: publication.files().map(wire).collect() }
    }
}

impl TryFrom<WirePublication> for Publication {
    type Error = PublicationError;

    fn try_from(wire: WirePublication) -> Result<Self, PublicationError> {
        Self::new(wire.files.into_iter().map(|WireFile { path, content_base64, executable }| {
            let path: ContentPath = path.parse()?;
            match BASE64_STANDARD.decode(content_base64) {
                Ok(content) => Ok((path, ContentFile { content, executable })),
                Err(_) => Err(PublicationError::NotBase64(path)),
            }
        }))
    }
}
