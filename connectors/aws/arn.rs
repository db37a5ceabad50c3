//! Names of what is at AWS: `arn:<partition>:<service>:<region>:<account>:<resource>`.

/// The parts of an ARN that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Reads an ARN; none where it is something else, or one without a resource.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (prefix, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        let is_one = prefix == "arn"
            && !partition.is_empty()
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && !resource.is_empty();
        is_one.then_some(Self {
            service,
            region,
            resource,
        })
    }

    /// Its region, where it has one.
    pub(crate) fn region(self) -> Option<String> {
        (!self.region.is_empty()).then(|| self.region.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_told_from_anything_else() {
        let arn = Arn::read("arn:aws:lambda:eu-west-1:123456789012:function:f:prod").unwrap();
        assert_eq!(arn.service, "lambda");
        assert_eq!(arn.region().as_deref(), Some("eu-west-1"));
        assert_eq!(arn.resource, "function:f:prod");
        for other in [
            "",
            "orders",
            "arn:aws:sns:eu-west-1:123456789012",
            "arn:aws:sns:eu-west-1:123456789012:",
            "arn:aws:sns:eu-west-1:mine:orders",
            "urn:aws:sns:eu-west-1:123456789012:orders",
        ] {
            assert_eq!(Arn::read(other), None, "{other}");
        }
    }
}
