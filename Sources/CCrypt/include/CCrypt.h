#pragma once
// libcrypt, linked statically: a machine's own may be missing, as RHEL has another version.
#include <crypt.h>
