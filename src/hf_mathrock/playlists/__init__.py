# SPDX-License-Identifier: Apache-2.0
"""Playlists by geometry: songs as points, a playlist as their hull. numpy and scipy, numbers in and out.

vectors      what counts as a set of embeddings, and what is refused
whitening    library-level centring and principal axes of unit variance
simplex      nearest point of a convex hull, or of a mixture of two, with a certificate
cone         nearest point of a cone, with a certificate
gauge        by how much a hull must be scaled to reach a point
sketch       the extreme songs of a long playlist
songs        a library: embeddings, names, and what is known of artist, key and tempo
hull         `PlaylistHull`, which ties these together
selection    choosing songs of a library within a hull, or just beyond it
bridging     choosing songs of a library on the way from one hull to another
explaining   shares as a sentence
"""
