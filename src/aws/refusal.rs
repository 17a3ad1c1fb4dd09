//! What a call came to if AWS did not do it, or did not say so: the code decides what is done next. Pure.

use super::answer::Element;
use super::service::Service;

/// So much of what AWS says is shown.
const MOST_SHOWN_CHARACTERS: usize = 500;

/// AWS has been asked too much; nothing was done.
const THROTTLED: &[&str] = &[
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "SlowDown",
    // Route 53: a change of the zone is still under way.
    "PriorRequestNotComplete",
];

/// Not here, not of this size, not so many; nothing was done.
const NO_CAPACITY: &[&str] = &[
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity",
    "InsufficientAddressCapacity",
    "InsufficientVolumeCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    // The size is not offered in this zone.
    "Unsupported",
];

/// A call that was not done, or of which nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// AWS said no, in its own words.
    #[error("{service} refused {action}: {code}: {message} (status {status})")]
    Refused { service: Service, action: &'static str, status: u16, code: String, message: String },
    /// Somebody answered, and not as AWS does.
    #[error("{service} answered {action} with status {status} and no XML of AWS: {said}")]
    Garbled { service: Service, action: &'static str, status: u16, said: String },
    /// Nobody answered in time.
    #[error("{service} gave no answer to {action}")]
    Lost { service: Service, action: &'static str, source: anyhow::Error },
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Not done; worth asking again after a rest.
    Throttled,
    /// Not done; worth asking for another size or place.
    NoCapacity,
    /// Perhaps done.
    Unclear,
    /// Not done, and asking again would not help.
    No,
}

impl CallError {
    /// What an answer that is no success says.
    pub(super) fn of(service: Service, action: &'static str, status: u16, text: &str) -> Self {
        let said = |text: &str| text.chars().take(MOST_SHOWN_CHARACTERS).collect::<String>();
        let refusal = Element::parse(text).and_then(|answer| {
            let error = answer.child("Errors").unwrap_or(&answer).child("Error")?;
            Some((error.text_at(&["Code"])?.to_owned(), said(&error.said(&["Message"]))))
        });
        match refusal {
            Some((code, message)) => Self::Refused { service, action, status, code, message },
            None => Self::Garbled { service, action, status, said: said(&in_one_line(text)) },
        }
    }

    /// What follows from it.
    pub(super) fn nature(&self) -> Nature {
        match self {
            Self::Refused { code, status, .. } => match code.as_str() {
                code if THROTTLED.contains(&code) => Nature::Throttled,
                code if NO_CAPACITY.contains(&code) => Nature::NoCapacity,
                _ if *status >= 500 => Nature::Unclear,
                _ => Nature::No,
            },
            Self::Garbled { status, .. } if (400..500).contains(status) && *status != 429 => Nature::No,
            Self::Garbled { .. } | Self::Lost { .. } => Nature::Unclear,
        }
    }

    /// AWS itself said no: nothing was done. What others say in its place proves nothing.
    pub(super) fn is_clear(&self) -> bool {
        matches!(self, Self::Refused { .. }) && self.nature() != Nature::Unclear
    }

    /// The code of a refusal.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Garbled { .. } | Self::Lost { .. } => None,
        }
    }
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, text: &str) -> CallError {
        CallError::of(Service::Ec2, "RunInstances", status, text)
    }

    fn refused(status: u16, code: &str) -> CallError {
        error(status, &format!("<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>"))
    }

    #[test]
    fn the_code_decides_what_is_done_next() {
        let cases = [
            (503, "RequestLimitExceeded", Nature::Throttled, true),
            (400, "Throttling", Nature::Throttled, true),
            (500, "InsufficientInstanceCapacity", Nature::NoCapacity, true),
            (400, "VcpuLimitExceeded", Nature::NoCapacity, true),
            (500, "InternalError", Nature::Unclear, false),
            (503, "Unavailable", Nature::Unclear, false),
            (400, "InvalidAMIID.NotFound", Nature::No, true),
            (401, "AuthFailure", Nature::No, true),
        ];
        for (status, code, nature, is_clear) in cases {
            let error = refused(status, code);
            assert_eq!((error.nature(), error.is_clear()), (nature, is_clear), "{error}");
        }
    }

    #[test]
    fn what_is_not_of_aws_proves_nothing() {
        let html = "<!doctype html>\n<title>500 Internal Server Error</title>";
        for (status, nature) in [
            (500, Nature::Unclear),
            (502, Nature::Unclear),
            (200, Nature::Unclear),
            (429, Nature::Unclear),
            (403, Nature::No),
        ] {
            let error = error(status, html);
            assert_eq!((error.nature(), error.is_clear()), (nature, false), "{error}");
        }
        let shown = error(500, html).to_string();
        assert_eq!(
            shown,
            "EC2 answered RunInstances with status 500 and no XML of AWS: <!doctype html> <title>500 Internal Server \
             Error</title>"
        );
    }

    #[test]
    fn every_services_way_to_refuse_is_read() {
        let of_elb = "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>TargetGroupNotFound</Code>\
                      <Message>One or more target groups not found</Message></Error></ErrorResponse>";
        let error = CallError::of(Service::Elb, "DescribeTargetGroups", 400, of_elb);
        assert_eq!(
            error.to_string(),
            "ELBv2 refused DescribeTargetGroups: TargetGroupNotFound: One or more target groups not found (status 400)"
        );
    }
}
