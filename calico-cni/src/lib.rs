// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin `calico`.

pub mod annotations;
pub mod undo;
