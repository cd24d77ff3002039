// SPDX-License-Identifier: Apache-2.0
//! Our JSON against that of another implementation of the specification, the crate `rscni-types`, for the versions
//! that both know.
//!
//! It keeps the fields of 1.1.0 in older results, as the reference library does; we leave them out, as the older
//! specifications say. The results compared here have them in 1.1.0 only.

use cni_plugin::{AddResult, Code, Error, SUPPORTED_VERSIONS, Version};
use proptest::prelude::*;
use rscni_types::{
    error::Error as TheirError,
    legacy,
    types::{CNIResult, CNIResultWithVersion, ErrorResult},
    version::SpecVersion,
};
use serde_json::Value;

use crate::properties::{results, without_details};

fn theirs(version: Version) -> SpecVersion {
    version.to_string().parse().unwrap()
}

/// Their JSON of a result that was read from ours.
fn printed_by_them(ours: &Value, version: Version) -> Value {
    let read: CNIResult =
        serde_json::from_value(ours.clone()).unwrap_or_else(|error| panic!("{ours}: {error}"));
    let version = theirs(version);
    if version.is_legacy() {
        serde_json::to_value(legacy::CNIResult::new(version, read)).unwrap()
    } else {
        serde_json::to_value(CNIResultWithVersion::new(version, read)).unwrap()
    }
}

proptest! {
    #[test]
    fn results_are_printed_alike(result in results()) {
        let common: Vec<Version> = SUPPORTED_VERSIONS.into_iter().filter(|version| theirs(*version).is_supported()).collect();
        prop_assert_eq!(common.len(), 5);
        for version in common {
            let result = if version < Version::V1_1_0 { without_details(&result) } else { result.clone() };
            let ours = result.to_json(version).unwrap();
            prop_assert_eq!(&printed_by_them(&ours, version), &ours);
            let read = AddResult::from_json(&printed_by_them(&ours, version), version).unwrap();
            prop_assert_eq!(read, result);
        }
    }

    #[test]
    fn errors_are_printed_and_read_alike(code in 1_u32..1200, message in ".{1,40}", details in ".{0,40}") {
        let ours = Error::new(Code::from(code), message).details(details);
        let json = ours.to_json(Version::V1_1_0);
        let read: ErrorResult = serde_json::from_value(json.clone()).unwrap();
        let printed = serde_json::to_value(&read).unwrap();
        prop_assert_eq!(Error::from_json(&printed), Some(ours.clone()));
        let mut expected = json;
        expected["details"] = ours.details.clone().into();
        prop_assert_eq!(printed, expected);
    }
}

#[test]
fn codes_mean_the_same() {
    let details = "why".to_owned();
    for (theirs, code) in [
        (
            TheirError::IncompatibleVersion(details.clone()),
            Code::IncompatibleVersion,
        ),
        (
            TheirError::UnsupportedNetworkConfiguration(details.clone()),
            Code::UnsupportedField,
        ),
        (TheirError::NotExist(details.clone()), Code::UnknownContainer),
        (
            TheirError::InvalidEnvValue(details.clone()),
            Code::InvalidEnvironment,
        ),
        (TheirError::IOFailure(details.clone()), Code::Io),
        (TheirError::FailedToDecode(details.clone()), Code::Decoding),
        (
            TheirError::InvalidNetworkConfig(details.clone()),
            Code::InvalidConfig,
        ),
        (TheirError::InvalidNetNS(details.clone()), Code::OwnNamespace),
        (TheirError::TryAgainLater(details.clone()), Code::TryAgainLater),
        (
            TheirError::PluginNotAvailable(details.clone()),
            Code::NotAvailable,
        ),
        (
            TheirError::PluginNotAvailableLimitedConnectivity(details.clone()),
            Code::LimitedConnectivity,
        ),
        (
            TheirError::Custom(150, "own".to_owned(), details.clone()),
            Code::Other(150),
        ),
    ] {
        let printed = ErrorResult::new("1.1.0".parse().unwrap(), &theirs);
        let read = Error::from_json(&serde_json::to_value(&printed).unwrap()).unwrap();
        assert_eq!((read.code, read.details.as_str()), (code, "why"), "{theirs:?}");
    }
}
