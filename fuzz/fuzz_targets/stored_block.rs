// SPDX-License-Identifier: Apache-2.0
//! libFuzzer program of [`fuzz::stored_block`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::stored_block(data));
