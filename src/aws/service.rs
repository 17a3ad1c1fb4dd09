//! The services of AWS that are called.

use std::fmt;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Ec2,
    Elb,
    Route53,
}

impl Service {
    /// What signatures call it.
    pub(super) const fn signed_as(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Elb => "elasticloadbalancing",
            Self::Route53 => "route53",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ec2 => "EC2",
            Self::Elb => "ELBv2",
            Self::Route53 => "Route 53",
        })
    }
}
