//! Plain old data: structs whose every bit pattern is valid and that have no padding bytes.

/// # Safety
/// `repr(C)`, no padding, no pointers, every bit pattern valid.
pub unsafe trait Pod: Copy + 'static {}

/// Marks `repr(C)` structs of plain integers as `Pod`.
#[macro_export]
macro_rules! pod {
    ($($t:ty),+ $(,)?) => {
        $(
            // SAFETY: the struct is repr(C) of integers whose sizes leave no padding (its size is asserted beside it).
            #[allow(unsafe_code)]
            unsafe impl $crate::sys::pod::Pod for $t {}
        )+
    };
}

/// The first `size_of::<T>()` bytes as a `T`; `None` when there are fewer.
pub fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < std::mem::size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, T is plain data, and the read is unaligned.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}

pub fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: T has no padding, so each of its bytes is initialised; the borrow keeps it alive.
    unsafe {
        std::slice::from_raw_parts((value as *const T).cast::<u8>(), std::mem::size_of::<T>())
    }
}

/// Writes `value` at the start of `out`; `None` when it does not fit.
pub fn write<T: Pod>(out: &mut [u8], value: &T) -> Option<usize> {
    let bytes = bytes_of(value);
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(bytes.len())
}
