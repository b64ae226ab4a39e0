//! The numbers by which the engine finds its services and checks, and positions in the configuration. Each has a type of
//! its own, so that none is used for another.

use core::marker::PhantomData;

use serde::{Deserialize, Serialize};
use slab::Slab;

/// A number that is an index.
pub(super) trait Index: Copy {
    /// The number of this index.
    fn of(index: usize) -> Self;

    fn index(self) -> usize;

    /// The first `count` numbers.
    fn first(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(Self::of)
    }
}

macro_rules! indexes {
    ($($(#[$attribute:meta])* $visibility:vis $name:ident;)*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name(pub u32);

        impl Index for $name {
            fn of(index: usize) -> Self {
                Self(super::number(index))
            }

            fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

indexes! {
    /// A service, stable as long as it exists.
    pub(super) ServiceSlot;
    /// A check, stable as long as it exists.
    #[derive(Serialize, Deserialize)]
    pub CheckerSlot;
    /// Position of a service in the configuration.
    pub(super) ServicePosition;
    /// Position of a real server in its service, in the order of the configuration.
    pub(super) ServerPosition;
    /// Position of a check among those of its server, in the order of the configuration.
    pub(super) CheckerPosition;
}

/// A table whose rows are found by numbers of one type.
#[derive(Debug)]
pub(super) struct Rows<I, T> {
    rows: Slab<T>,
    numbers: PhantomData<I>,
}

impl<I: Index, T> Rows<I, T> {
    pub const fn new() -> Self {
        Self { rows: Slab::new(), numbers: PhantomData }
    }

    pub fn get(&self, at: I) -> Option<&T> {
        self.rows.get(at.index())
    }

    pub fn get_mut(&mut self, at: I) -> Option<&mut T> {
        self.rows.get_mut(at.index())
    }

    /// Adds a row under a free number.
    pub fn insert(&mut self, row: T) -> I {
        I::of(self.rows.insert(row))
    }

    /// Removes a row, if it exists; its number becomes free.
    pub fn remove(&mut self, at: I) -> Option<T> {
        self.rows.try_remove(at.index())
    }

    pub fn clear(&mut self) {
        self.rows.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All numbers are below this.
    pub fn bound(&self) -> usize {
        self.rows.capacity()
    }

    pub fn numbers(&self) -> impl Iterator<Item = I> {
        self.rows.iter().map(|(at, _)| I::of(at))
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().map(|(_, row)| row)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.iter_mut().map(|(_, row)| row)
    }
}
