//! The C side of a VFS: `sqlite3_vfs` that passes calls on to the system's, and opens files whose
//! methods are in `file`. With that the only place with `unsafe`; decides nothing by itself.

mod file;

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_vfs};

use crate::journal::FileId;
use crate::plan::{Op, code};
use crate::vfs::Shared;

/// Files that the journal follows; temporary ones don't outlive their connection.
const FOLLOWED: c_int =
    ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL;

/// What `sqlite3_vfs::pAppData` points to.
struct Context {
    shared: Arc<Shared>,
    real: *mut sqlite3_vfs,
}

/// An open file; the real one lies behind it in the memory that SQLite gives.
#[repr(C)]
struct File {
    base: sqlite3_file,
    context: *const Context,
    id: Option<FileId>,
}

/// A name in SQLite's list of VFSs.
#[derive(Debug)]
pub(crate) struct Registration {
    name: &'static str,
    vfs: *mut sqlite3_vfs,
}

// SAFETY: the pointer is only handed to `sqlite3_vfs_unregister`, which takes SQLite's own lock.
unsafe impl Send for Registration {}
// SAFETY: as above; a shared reference does nothing with the pointer.
unsafe impl Sync for Registration {}

impl Registration {
    /// `default` makes it the VFS of every connection that names none.
    pub(crate) fn new(shared: &Arc<Shared>, default: bool) -> io::Result<Registration> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("qpc-fault-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // SAFETY: has no precondition.
        let ready = unsafe { ffi::sqlite3_initialize() };
        // SAFETY: a null name asks for the default, which lives as long as the process.
        let real = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        if ready != ffi::SQLITE_OK || real.is_null() {
            return Err(io::Error::other("SQLite has no default VFS"));
        }
        let context = Box::leak(Box::new(Context { shared: Arc::clone(shared), real }));
        // Leaked on purpose: a connection may outlive the registration and still point there.
        let vfs = Box::into_raw(Box::new(describe(context, &name)?));
        // SAFETY: `vfs` is complete and never freed.
        if unsafe { ffi::sqlite3_vfs_register(vfs, c_int::from(default)) } != ffi::SQLITE_OK {
            return Err(io::Error::other("SQLite refuses the VFS"));
        }
        Ok(Registration { name: String::leak(name), vfs })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: `vfs` was registered and is never freed, so open connections stay sound.
        unsafe { ffi::sqlite3_vfs_unregister(self.vfs) };
    }
}

fn describe(context: &'static Context, name: &str) -> io::Result<sqlite3_vfs> {
    // SAFETY: `real` is SQLite's default VFS, which is never freed.
    let real = unsafe { &*context.real };
    let own = c_int::try_from(size_of::<File>()).map_err(io::Error::other)?;
    Ok(sqlite3_vfs {
        iVersion: 2,
        szOsFile: own + real.szOsFile,
        mxPathname: real.mxPathname,
        pNext: ptr::null_mut(),
        zName: CString::new(name)?.into_raw(),
        pAppData: ptr::from_ref(context).cast_mut().cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        // Extensions can't be loaded through this VFS.
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    })
}

/// Calls a method of the real VFS behind `vfs`.
///
/// Needs `vfs` to be one of ours, and the method's own preconditions, which SQLite keeps towards
/// the method that this is used in.
macro_rules! ask_system {
    ($vfs:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite passes the VFS that `describe` has filled.
        let real = unsafe { context_of($vfs) }.real;
        // SAFETY: the default VFS is never freed.
        match unsafe { (*real).$method } {
            // SAFETY: the arguments are those that SQLite gave for the same method.
            Some(method) => unsafe { method(real $(, $argument)*) },
            None => ffi::SQLITE_ERROR,
        }
    }};
}

/// # Safety
/// `vfs` is one that [`describe`] has filled.
unsafe fn context_of<'v>(vfs: *mut sqlite3_vfs) -> &'v Context {
    // SAFETY: its `pAppData` points to a leaked context.
    unsafe { &*(*vfs).pAppData.cast::<Context>() }
}

/// # Safety
/// `file` has room for a [`File`] and the real file behind it.
unsafe fn real_of(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: by the caller; `File` has the alignment that SQLite gives to files.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// # Safety
/// `name` is null or a string that ends with a zero.
unsafe fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: by the caller.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes();
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes our VFS, a name or null, and memory of `szOsFile` bytes.
    let (context, path, real) = unsafe { (context_of(vfs), path_of(name), real_of(file)) };
    let path = path.filter(|_| flags & FOLLOWED != 0);
    let content = path.as_deref().and_then(|path| std::fs::read(path).ok());
    // SAFETY: the memory is ours to fill; no methods means "not open", for both files.
    unsafe {
        (*file).pMethods = ptr::null();
        (*real).pMethods = ptr::null();
    }
    let opened = ask_system!(vfs, xOpen, name, real, flags, flags_out);
    if opened != ffi::SQLITE_OK {
        // SAFETY: a file that failed to open and has methods nevertheless wants to be closed.
        unsafe {
            if !(*real).pMethods.is_null() {
                file::close(file);
            }
        }
        return opened;
    }
    let id = path.map(|path| context.shared.state().journal.open(&path, content));
    let filled = File { base: sqlite3_file { pMethods: &raw const file::METHODS }, context, id };
    // SAFETY: the memory holds a `File`, aligned to 8 bytes as SQLite does.
    unsafe { file.cast::<File>().write(filled) };
    opened
}

unsafe extern "C" fn delete(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    // SAFETY: SQLite passes our VFS and a name.
    let (context, path) = unsafe { (context_of(vfs), path_of(name)) };
    if let Some(fault) = context.shared.state().faults.next(Op::Delete) {
        return code(Op::Delete, fault);
    }
    let deleted = ask_system!(vfs, xDelete, name, 0);
    if let Some(path) = path.filter(|_| deleted == ffi::SQLITE_OK) {
        context.shared.state().journal.delete(Path::new(&path), sync_directory != 0);
    }
    deleted
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    ask_system!(vfs, xAccess, name, flags, out)
}

unsafe extern "C" fn full_pathname(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    ask_system!(vfs, xFullPathname, name, len, out)
}

unsafe extern "C" fn randomness(vfs: *mut sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    ask_system!(vfs, xRandomness, len, out)
}

unsafe extern "C" fn sleep(vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    ask_system!(vfs, xSleep, microseconds)
}

unsafe extern "C" fn current_time(vfs: *mut sqlite3_vfs, out: *mut f64) -> c_int {
    ask_system!(vfs, xCurrentTime, out)
}

unsafe extern "C" fn last_error(vfs: *mut sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    ask_system!(vfs, xGetLastError, len, out)
}

unsafe extern "C" fn current_time_int64(vfs: *mut sqlite3_vfs, out: *mut sqlite3_int64) -> c_int {
    ask_system!(vfs, xCurrentTimeInt64, out)
}
