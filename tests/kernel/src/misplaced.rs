//! [`misplace`]: a socket whose place in its stream is not what its program believes.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};

/// Has the program believe that more has arrived at the socket than did.
pub fn misplace(socket: &impl AsFd) -> Result<()> {
    let cookie = socket2::SockRef::from(socket).cookie()?;
    let mut moved = 0;
    for map in aya::maps::loaded_maps() {
        let map = map?;
        if map.name_as_str() != Some("ARRIVED") {
            continue;
        }
        let data = aya::maps::MapData::from_id(map.id())?;
        let mut arrived: aya::maps::HashMap<_, u64, [u64; 2]> =
            aya::maps::Map::from_map_data(data)?.try_into()?;
        if let Ok([bytes, next]) = arrived.get(&cookie, 0) {
            arrived.insert(cookie, [bytes, next - 1000], 0)?;
            moved += 1;
        }
    }
    ensure!(moved == 1, "{moved} programs know the socket");
    Ok(())
}
