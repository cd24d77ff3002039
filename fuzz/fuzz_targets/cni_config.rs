// SPDX-License-Identifier: Apache-2.0
//! libFuzzer program of [`fuzz::cni_config`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::cni_config(data));
