// SPDX-License-Identifier: Apache-2.0
//! libFuzzer program of [`fuzz::bgp_message`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::bgp_message(data));
