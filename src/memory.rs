//! What the current thread has allocated: by this, what a script may hold is bounded whatever it builds it from.
//!
//! The allocator only counts, in cells of its own thread, so an allocation costs about a nanosecond more. It refuses
//! nothing: whoever sets a bound looks at a [`Mark`] from time to time. Memory that is freed by another thread than the
//! one that allocated it stays on the first one's account; bounds have to leave room for that.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait; every call is handed on unchanged")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

/// An allocator that counts per thread what passes through it.
#[derive(Debug)]
pub struct CountingAllocator<A>(A);

impl<A> CountingAllocator<A> {
    /// Counts for `inner`.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

/// Of one thread, since it began.
struct Counters {
    alive: Cell<i64>,
    allocated: Cell<u64>,
    nodes: Cell<i64>,
}

thread_local! {
    static COUNTERS: Counters = const { Counters { alive: Cell::new(0), allocated: Cell::new(0), nodes: Cell::new(0) } };
}

/// How much one block adds to the depth of a script's values, in units of 180 bytes of stack.
///
/// Every level of a nested value is a block of one of these sizes: lists and maps are boxes of 24 bytes, closures are of
/// 40 (as are texts, which are counted with them) and what they share of 48. What walks over a value takes up to three units of
/// stack for the former and one for the latter, so this sum bounds how deep any value can be.
const fn depth_units(layout: Layout) -> i64 {
    match (layout.size(), layout.align()) {
        (24, 8) => 3,
        (40 | 48, 8) => 1,
        _ => 0,
    }
}

/// What a small block counts as allocated: it takes as much time as one of this size that is filled.
const LEAST_CHARGE: u64 = 128;

fn count(layout: Layout, direction: i64) {
    // Fails only while the thread ends, when nobody looks any more.
    COUNTERS
        .try_with(|counters| {
            let size = layout.size().cast_signed() as i64 * direction;
            counters.alive.set(counters.alive.get().wrapping_add(size));
            if size > 0 {
                let charge = size.unsigned_abs().max(LEAST_CHARGE);
                counters.allocated.set(counters.allocated.get().wrapping_add(charge));
            }
            counters.nodes.set(counters.nodes.get().wrapping_add(depth_units(layout) * direction));
        })
        .unwrap_or(());
}

/// Only the growth counts as allocated: a text that is grown byte by byte is hardly ever moved.
fn count_change(old: Layout, new: Layout) {
    count(new, 1);
    count(old, -1);
    let unmoved = old.size().min(new.size()) as u64;
    COUNTERS.try_with(|counters| counters.allocated.set(counters.allocated.get().wrapping_sub(unmoved))).unwrap_or(());
}

// SAFETY: every call is handed to the allocator inside with the arguments it came with, and its answer is handed back.
// Counting neither allocates nor unwinds: the cells are initialised at compile time and have nothing to drop.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promises are those that the allocator inside asks for.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is a valid one for this alignment.
        count_change(layout, unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) });
        // SAFETY: as above.
        unsafe { self.0.realloc(block, layout, new_size) }
    }
}

/// A moment in the life of the current thread, from which on allocations are counted.
#[derive(Debug, Clone, Copy)]
pub struct Mark(Taken);

/// What a thread took since a [`Mark`].
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Bytes that were allocated and not freed. Below zero, if the thread frees what others allocated, counts as zero.
    pub alive: u64,
    /// All bytes that were allocated, freed or not; small blocks count as 128 bytes.
    pub allocated: u64,
    /// How deep a value can be at most that was built since, in units of 180 bytes of stack.
    pub depth_units: u64,
}

impl Mark {
    /// This moment.
    pub fn now() -> Self {
        COUNTERS.with(|counters| {
            Self(Taken {
                alive: counters.alive.get().cast_unsigned(),
                allocated: counters.allocated.get(),
                depth_units: counters.nodes.get().cast_unsigned(),
            })
        })
    }

    /// Since then.
    pub fn taken(&self) -> Taken {
        let (Self(now), Self(then)) = (Self::now(), self);
        let not_negative = |difference: u64| u64::try_from(difference.cast_signed()).unwrap_or(0);
        Taken {
            alive: not_negative(now.alive.wrapping_sub(then.alive)),
            allocated: now.allocated.wrapping_sub(then.allocated),
            depth_units: not_negative(now.depth_units.wrapping_sub(then.depth_units)),
        }
    }

    /// [`Taken::alive`].
    pub fn alive(&self) -> u64 {
        self.taken().alive
    }

    /// [`Taken::allocated`].
    pub fn allocated(&self) -> u64 {
        self.taken().allocated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_what_is_alive_and_what_was_allocated() {
        let mark = Mark::now();
        let kept = vec![0_u8; 100_000];
        drop(vec![0_u8; 200_000]);
        let (alive, allocated) = (mark.alive(), mark.allocated());
        assert!((100_000..101_000).contains(&alive), "alive are {alive}");
        assert!((300_000..301_000).contains(&allocated), "allocated were {allocated}");
        drop(kept);
        assert!(mark.alive() < 1_000);
    }

    #[test]
    fn growing_a_block_counts_its_last_size_as_alive() {
        let mark = Mark::now();
        let mut grown: Vec<u8> = Vec::with_capacity(1_000);
        grown.resize(50_000, 1);
        assert_eq!(grown.last(), Some(&1));
        assert!((50_000..120_000).contains(&mark.alive()));
        assert!((50_000..120_000).contains(&mark.allocated()));
    }

    #[test]
    fn every_level_of_a_nested_script_value_adds_to_the_depth() {
        let named = rhai::FnPtr::new("called").unwrap();
        let mark = Mark::now();
        let mut value = rhai::Dynamic::UNIT;
        for _ in 0..100 {
            value = rhai::Dynamic::from_array(vec![value]);
            value = rhai::Dynamic::from_map([("a".into(), value)].into_iter().collect());
            let mut closure = named.clone();
            closure.add_curry(value.into_shared());
            value = rhai::Dynamic::from(closure);
        }
        assert!(mark.taken().depth_units >= 100 * (3 + 3 + 1 + 1), "only {}", mark.taken().depth_units);
        drop(value);
        assert!(mark.taken().depth_units < 10);
    }
}
