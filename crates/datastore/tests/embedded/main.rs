// SPDX-License-Identifier: Apache-2.0
//! The embedded store as operators meet it: several processes, killed at any moment; files that are deleted, cut,
//! overwritten and restored; disks that are full or read-only; versions that come and go.

mod damage;
mod disks;
mod growth;
mod processes;
mod replaced_underneath;
mod support;
mod versions;
