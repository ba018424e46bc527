//! The C side of a file: `sqlite3_io_methods` that ask for a fault, pass the call on to the real
//! file and write down what happened. Decides nothing by itself.

use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods};

use super::{File, real_of};
use crate::journal::FileId;
use crate::plan::{Fault, Op, code};
use crate::vfs::Shared;

/// Version 2: shared memory for the log, and no memory-mapped pages, which would bypass `read`.
pub(super) static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Calls a method of the real file behind `file`.
///
/// Needs `file` to be one that [`open`] has opened, and the method's own preconditions, which
/// SQLite keeps towards the method that this is used in.
macro_rules! pass_on {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite passes a file that `open` has filled; the real one is behind it and open.
        let real = unsafe { real_of($file) };
        // SAFETY: an open file has methods that live as long as it.
        let method = unsafe { (*(*real).pMethods).$method };
        match method {
            // SAFETY: the arguments are those that SQLite gave for the same method.
            Some(method) => unsafe { method(real $(, $argument)*) },
            None => ffi::SQLITE_IOERR,
        }
    }};
}

/// # Safety
/// `file` was filled by [`open`].
unsafe fn own<'f>(file: *mut sqlite3_file) -> (&'f Shared, Option<FileId>) {
    // SAFETY: by the caller; contexts are leaked.
    unsafe {
        let file = &*file.cast::<File>();
        (&(*file.context).shared, file.id)
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    data: *const c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes a file that `open` has filled.
    let (shared, id) = unsafe { own(file) };
    let fault = shared.state().faults.next(Op::Write);
    let written = match fault {
        None => len,
        Some(Fault::ShortWrite | Fault::AbortHalfway) => len / 2,
        Some(Fault::NoSpace | Fault::Io | Fault::Abort) => 0,
    };
    if written > 0 {
        let result = pass_on!(file, xWrite, data, written, offset);
        if result != ffi::SQLITE_OK {
            return result;
        }
        let written = usize::try_from(written).unwrap_or(0);
        // SAFETY: SQLite passes `len` readable bytes, and `written` is no more.
        let bytes = unsafe { slice::from_raw_parts(data.cast::<u8>(), written) };
        if let Some(id) = id {
            shared.state().journal.write(id, u64::try_from(offset).unwrap_or(0), bytes);
        }
    }
    fault.map_or(ffi::SQLITE_OK, |fault| code(Op::Write, fault))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes a file that `open` has filled.
    let (shared, id) = unsafe { own(file) };
    if let Some(fault) = shared.state().faults.next(Op::Truncate) {
        return code(Op::Truncate, fault);
    }
    let result = pass_on!(file, xTruncate, len);
    if let (Some(id), ffi::SQLITE_OK) = (id, result) {
        shared.state().journal.truncate(id, u64::try_from(len).unwrap_or(0));
    }
    result
}

/// Nothing is passed on: the journal decides what a cut of the power leaves, not this disk.
unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite passes a file that `open` has filled.
    let (shared, id) = unsafe { own(file) };
    let mut state = shared.state();
    let fault = state.faults.next(Op::Sync);
    if let Some(fault) = fault {
        fault.abort_if_ordered();
    }
    if let Some(id) = id {
        state.journal.sync(id, fault.is_some());
    }
    fault.map_or(ffi::SQLITE_OK, |fault| code(Op::Sync, fault))
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite passes a file that `open` has filled.
    let (shared, _) = unsafe { own(file) };
    if extend != 0
        && let Some(fault) = shared.state().faults.next(Op::ShmGrow)
    {
        // SAFETY: SQLite passes a place for the address.
        unsafe { *out = ptr::null_mut() };
        return code(Op::ShmGrow, fault);
    }
    pass_on!(file, xShmMap, region, bytes, extend, out)
}

pub(super) unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    pass_on!(file, xClose)
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    data: *mut c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes a file that `open` has filled.
    let (shared, _) = unsafe { own(file) };
    if let Some(fault) = shared.state().faults.next(Op::Read) {
        return code(Op::Read, fault);
    }
    pass_on!(file, xRead, data, len, offset)
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    pass_on!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass_on!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass_on!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    pass_on!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(
    file: *mut sqlite3_file,
    op: c_int,
    argument: *mut c_void,
) -> c_int {
    pass_on!(file, xFileControl, op, argument)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    pass_on!(file, xSectorSize)
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    pass_on!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    pass_on!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: SQLite passes a file that `open` has filled; the real one behind it is open.
    unsafe {
        let real = real_of(file);
        if let Some(barrier) = (*(*real).pMethods).xShmBarrier {
            barrier(real);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    pass_on!(file, xShmUnmap, delete)
}
