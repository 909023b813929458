#pragma once
#include <string.h>
#include <nghttp2/nghttp2.h>
